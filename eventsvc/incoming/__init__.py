"""What clients send, on its way to becoming events: unpacked, split, and its faults explained."""
