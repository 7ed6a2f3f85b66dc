//! `holdfast ca create`: an intermediate CA signed by the cluster CA, constrained to the API server names and addresses.
