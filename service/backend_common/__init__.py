"""What the services that ship have in common; everything in which they differ is in their own directories."""
