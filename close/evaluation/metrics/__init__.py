"""What scores a text: one file a metric."""
