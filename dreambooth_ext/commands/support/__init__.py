"""What several verbs share: settings as options, a run on the terminal, where its models go, exit statuses."""
