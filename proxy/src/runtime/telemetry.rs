//! tracing: text or JSON on stderr, a filter that can be reloaded.
