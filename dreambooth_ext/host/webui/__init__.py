"""All that knows the WebUI's `modules`, found by feature and never by a fork's name."""
