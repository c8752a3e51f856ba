"""The expression encoder as a torch network: architectures, export, and files read back."""
