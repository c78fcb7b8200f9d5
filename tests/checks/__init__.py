"""Right and wrong answers to the exercises, lesson by lesson."""
