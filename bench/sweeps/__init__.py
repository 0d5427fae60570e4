"""What each constant of the controllers is worth, on simulated machines."""
