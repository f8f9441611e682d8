"""What users are told: a code with values, and one catalogue that has its words (`english/`)."""
