"""`evidence contracts`: flag files checked, compared, and written for other tools."""
