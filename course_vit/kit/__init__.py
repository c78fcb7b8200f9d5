"""What the course needs but does not teach: data, pictures, checks, export."""
