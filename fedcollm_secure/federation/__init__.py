"""Who talks: messages, the silo (all that a client does), the coordinator (the round loop), the run's folder."""
