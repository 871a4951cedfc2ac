"""What a GAN is, and how one round of the game is played. Needs torch only: no Ray, MLflow or boto3."""
