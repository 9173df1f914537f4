"""The HTTP surface: `predict_app` in every production replica, `gateway_app` once for everything else."""
