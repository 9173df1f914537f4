"""Four applications, each on its own drifting stream: the learning system beside the same model frozen early on."""
