/** What a server counts, in the text format of Prometheus. */
import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client';

export interface Metrics {
  /** One request that has been answered. */
  answered(route: string, status: number, seconds: number): void;
  /** One prediction by a run. */
  readonly predicted: (run: string, label: string | null) => void;
  text(): Promise<string>;
  readonly contentType: string;
  /** Drops everything that was counted. */
  close(): void;
}

/** @param busy requests that are being worked on now */
export function openMetrics(busy: () => number): Metrics {
  const register = new Registry();
  const registers = [register];
  collectDefaultMetrics({ register });
  const requests = new Counter({
    name: 'scion_http_requests_total', help: 'Requests by route and status.', labelNames: ['route', 'status'],
    registers,
  });
  const seconds = new Histogram({
    name: 'scion_http_request_duration_seconds', help: 'Seconds from a request to its answer.', labelNames: ['route'],
    buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30], registers,
  });
  const predictions = new Counter({
    name: 'scion_predictions_total', help: 'Predictions by run; rejected ones are none of its classes.',
    labelNames: ['run', 'rejected'], registers,
  });
  new Gauge({
    name: 'scion_http_requests_in_flight', help: 'Requests to classify that hold a place.', registers,
    collect() { this.set(busy()); },
  });
  return {
    answered: (route, status, duration) => {
      requests.inc({ route, status });
      seconds.observe({ route }, duration);
    },
    predicted: (run, label) => predictions.inc({ run, rejected: String(label === null) }),
    text: () => register.metrics(),
    contentType: register.contentType,
    close: () => register.clear(),
  };
}
