"""What runs in managed pods: prints rank, devices and progress as training or serving would. Standard library only."""

__all__: list[str] = []
