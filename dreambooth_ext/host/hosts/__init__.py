"""What a host of models is: a WebUI, or plain folders."""
