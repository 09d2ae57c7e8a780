"""What is seen: a name becomes images per split, and images become batches on the device."""
