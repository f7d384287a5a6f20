"""From numbers to pictures and words. Nothing here trains."""
