"""What the demonstration swaps: photographs that installed packages carry, and a classical face swap."""
