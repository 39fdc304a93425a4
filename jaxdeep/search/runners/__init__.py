"""What runs rows: threads, stacks on devices, and executors' workers."""
