"""The dashboards, written in Python. `make dashboards` writes them to `grafana/dashboards`.

One module for each dashboard, over a layer that knows the rules for all of them: `promql` names series by the
dashboard's variables, `panels` and `tables` make panels that explain themselves, `limits` takes their thresholds from
where alerts take theirs, `links` leads from one dashboard to the next, `board` puts it all together.
"""
