"""The dashboards as code: generate.py writes the JSON that Grafana reads."""
