# What pint (github.com/cloudflare/pint, 0.80 or later) checks of the rules:
#
#   make pint
#
# Without --offline, and with a block `prometheus "..." { uri = "http://localhost:9090" }` here, it also asks that
# Prometheus whether the series are there.

checks {
  disabled = [
    # Rules read what another group records: targets stand in the file that users edit, recorded series in one that
    # dashboards read as well, and alerts in one file each, so that any of them can be left out. The cost is that an
    # alert may look at a value of one evaluation before, 30 s.
    "rule/dependency",
  ]
}

# Names of metrics and of groups begin with taskqueue, and are chosen by that: they are no labels put into one string.
check "promql/regexp" {
  smelly = false
}

# -- alerts -----------------------------------------------------------------------------------------------------

rule {
  match {
    kind = "alerting"
  }

  name "[A-Z][A-Za-z]+" {
    comment  = "An alert is called as its runbook is."
    severity = "bug"
  }

  annotation "summary" {
    severity = "bug"
    required = true
    value    = ".{10,}"
  }

  annotation "description" {
    severity = "bug"
    required = true
    value    = "(?s).{40,}"
  }

  annotation "runbook_url" {
    severity = "bug"
    required = true
    value    = "https://github\\.com/taskqueue-exporter/taskqueue-exporter/blob/main/docs/runbooks/{{ $alert }}\\.md"
  }

  annotation "dashboard_url" {
    severity = "bug"
    required = true
    value    = "http://localhost:3000/d/tq-(overview|system|task|redis|exporter)(\\?.+)?"
  }

  for {
    comment  = "Longer than this nobody waits for."
    severity = "warning"
    max      = "1h"
  }

  # One for all replicas of the exporter, whatever labels a target was given: `without`, never `by`.
  aggregate ".+" {
    comment  = "Labels of targets, as cluster and namespace, tell Alertmanager where it is."
    severity = "bug"
    keep     = ["job"]
  }
}

rule {
  match {
    kind = "alerting"
  }
  ignore {
    name = "Watchdog"
  }

  label "severity" {
    severity = "bug"
    required = true
    values   = ["critical", "warning", "info"]
  }
}

# It fires always, so that its silence is a sign; its severity is that of no route.
rule {
  match {
    name = "Watchdog"
  }

  disable = ["alerts/comparison"]

  label "severity" {
    severity = "bug"
    required = true
    values   = ["none"]
  }
}

# -- recorded series --------------------------------------------------------------------------------------------

rule {
  match {
    path = "(.*/)?(recording|targets)\\.yml"
    kind = "recording"
  }

  name "[a-z_]+:taskqueue_[a-z_]+:[a-z0-9_]+|taskqueue_target:[a-z_]+" {
    comment  = "level:metric:operation, or taskqueue_target:name."
    severity = "bug"
  }
}

# redis_exporter's own names, which have no colons: they are what its dashboards ask for.
rule {
  match {
    path = "(.*/)?compat-redis-exporter\\.yml"
    kind = "recording"
  }

  name "redis_[a-z_]+" {
    comment  = "A name of redis_exporter's."
    severity = "bug"
  }
}
