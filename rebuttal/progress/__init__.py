"""How a run reports while it works: console and progress bars, `status.json`, and trackers (TensorBoard, MLflow,
W&B)."""
