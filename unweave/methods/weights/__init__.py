"""What is read off the weights alone: QK and OV circuits, composition of heads, copying eigenvalues."""
