"""The dashboards as files: their form, what their queries read, what their thresholds and links mean. No server."""
