//! Step 8: a watch outlives the outage.
