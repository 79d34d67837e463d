// @grafana/data where there is a browser: the bundle of the preview's page.
export * as grafana from '@grafana/data';
