"""The roles of the learning loop, as plain classes; `cluster.launch` turns them into Ray actors."""
