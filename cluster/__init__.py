"""The job: configuration, launch, supervision and the command line."""
