"""The dashboards, written in Python. `make dashboards` writes them to `grafana/dashboards`.

`boards` lists them: a module or package each, with large rows in modules of their own. They stand on a layer that knows
the rules for all: `promql` names series by the dashboard's variables, `panels` and `tables` make panels that explain
themselves, `limits` takes thresholds from where alerts take theirs, `shares` says how near an alert is, `alerts` shows
those that fire, `links` leads from one dashboard to the next, `variables` and `marks` are what all have, `board` puts
it together. `queues` is what dashboards of queues share.
"""
