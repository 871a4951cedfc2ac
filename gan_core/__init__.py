"""What a GAN is, how it is trained and how it is measured. Needs torch only: no Ray, MLflow or boto3."""
