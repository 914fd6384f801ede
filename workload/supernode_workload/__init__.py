"""What runs in managed pods: prints rank, devices and progress as a training log would. Standard library only."""

__all__: list[str] = []
