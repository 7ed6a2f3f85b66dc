//! `/livez`, `/readyz`, `/metrics`, `/status`, `PUT /log-filter` on a listener of their own.
