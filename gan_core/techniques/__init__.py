"""What several families offer: what a critic sees (augmentation, noise, R1), dropout, unrolling, schedules."""
