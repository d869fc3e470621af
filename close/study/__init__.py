"""Many runs compared, and the best one chosen."""
