"""What Grafana shows: dashboards, made by `grafana.src`, and how it is provisioned with them."""
