/** Metrics and traces of a daemon at work: a scrape as Prometheus does it, and an OTLP collector of this test's own. */
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, test } from 'node:test';

import { eventually, TestDaemon } from '../support/daemon.ts';

interface Span {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly name: string;
  readonly status: { readonly code?: number };
  readonly attributes: readonly { readonly key: string; readonly value: Record<string, unknown> }[];
}

const spans: Span[] = [];
const collector = createServer((request, response) => {
  const chunks: Buffer[] = [];
  request.on('data', (chunk: Buffer) => chunks.push(chunk));
  request.on('end', () => {
    const { resourceSpans } = JSON.parse(Buffer.concat(chunks).toString());
    for (const { scopeSpans } of resourceSpans) for (const scope of scopeSpans) spans.push(...scope.spans);
    response.writeHead(200, { 'Content-Type': 'application/json' }).end('{}');
  });
});

let d: TestDaemon;
let metricsUrl: string;
before(async () => {
  await new Promise<void>((resolve) => collector.listen(0, '127.0.0.1', resolve));
  // Inherited by the daemon.
  process.env['OTEL_EXPORTER_OTLP_ENDPOINT'] = `http://127.0.0.1:${(collector.address() as AddressInfo).port}`;
  process.env['OTEL_EXPORTER_OTLP_PROTOCOL'] = 'http/json';
  process.env['OTEL_BSP_SCHEDULE_DELAY'] = '50';
  d = await TestDaemon.start('--metrics-addr', '127.0.0.1:0');
  metricsUrl = `http://${/"?address"?[=:]\s*"?(127\.0\.0\.1:\d+)/.exec(d.log)?.[1]}/metrics`;
  await d.image();
});
after(async () => {
  await d[Symbol.asyncDispose]();
  collector.closeAllConnections();
  collector.close();
});

/** The value of a series; undefined when it is not there. */
async function figure(series: string): Promise<number | undefined> {
  const answer = await fetch(metricsUrl);
  assert.equal(answer.status, 200);
  assert.match(answer.headers.get('content-type')!, /^text\/plain; version=0\.0\.4/);
  const line = (await answer.text()).split('\n').find((text) => text.startsWith(`${series} `));
  return line === undefined ? undefined : Number(line.slice(series.length + 1));
}

test('metrics: states, actions, restarts by cause, health checks, requests by route and memory, as they are', async () => {
  await d.ok('run', '-d', '--name', 'm1', 'bb:1', 'sleep', '600');
  await d.ok('run', '-d', '--name', 'm2', '--restart', 'on-failure:2', 'bb:1', 'false');
  await d.ok(
    'run',
    '-d',
    '--name',
    'm3',
    '--health-cmd',
    'false',
    '--health-interval',
    '100ms',
    'bb:1',
    'sleep',
    '600',
  );
  await d.ok('create', '--name', 'm4', 'bb:1');
  await d.ok('exec', 'm1', 'true');
  await eventually(
    'the policy gives up',
    async () => (await d.inspect('m2', '{{.State.Status}} {{.RestartCount}}')) === 'exited 2',
  );
  await eventually(
    'two probes failed',
    async () => ((await figure('engine_daemon_health_checks_failed_total')) ?? 0) >= 2,
  );
  assert.equal(await figure('engine_daemon_container_states_containers{state="running"}'), 2);
  assert.equal(await figure('engine_daemon_container_states_containers{state="stopped"}'), 2);
  assert.equal(await figure('longshore_containers{status="created"}'), 1);
  assert.equal(await figure('engine_daemon_container_actions_seconds_count{action="create"}'), 4);
  assert.equal(await figure('engine_daemon_container_actions_seconds_count{action="start"}'), 3);
  assert.equal(await figure('engine_daemon_container_actions_seconds_count{action="exec"}'), 1);
  assert.equal(await figure('longshore_container_restarts_total{cause="policy-failed"}'), 2);
  assert.equal(await figure('longshore_container_ends_total{outcome="failed"}'), 3);
  assert((await figure('engine_daemon_health_checks_total'))! >= 2);
  const route = 'method="POST",route="/containers/create",status="201"';
  assert.equal(await figure(`longshore_api_request_seconds_count{${route}}`), 4);
  assert((await figure('engine_daemon_events_total'))! >= 8);
  assert((await figure('process_resident_memory_bytes'))! > 20e6);
  await d.ok('stop', '-t', '0', 'm1', 'm3');
  assert.equal(await figure('engine_daemon_container_states_containers{state="running"}'), 0);
  assert.equal(await figure('engine_daemon_container_actions_seconds_count{action="stop"}'), 2);
  assert.equal((await fetch(metricsUrl.replace('/metrics', '/'))).status, 404);
});

test('metrics: a path that is no route makes no series of its own, and a refusal is counted by its status', async () => {
  await d.api('GET', '/no/such/path');
  await d.api('GET', '/containers/nope/json');
  assert.equal(await figure('longshore_api_request_seconds_count{method="GET",route="unknown",status="404"}'), 1);
  assert.equal(
    await figure('longshore_api_request_seconds_count{method="GET",route="/containers/{name}/json",status="404"}'),
    1,
  );
  assert.equal(
    await figure('longshore_operation_seconds_count{operation="container.inspect",outcome="ok"}'),
    undefined,
  );
});

test('traces: a start is one trace from the request down to the runtime, with labels, below its caller', async () => {
  await d.ok('create', '--name', 't1', '--label', 'team=blue', 'bb:1', 'true');
  const traceId = '0af7651916cd43dd8448eb211c80319c';
  const traceparent = `00-${traceId}-b7ad6b7169203331-01`;
  const { status } = await d.api('POST', '/containers/t1/start', undefined, { traceparent });
  assert.equal(status, 204);
  const named = (name: string): Span | undefined =>
    spans.find((span) => span.traceId === traceId && span.name === name);
  await eventually('spans arrive', async () => named('POST /containers/{name}/start') !== undefined);
  const [request, start, acquire, runtime] = [
    'POST /containers/{name}/start',
    'container.start',
    'resources.acquire',
    'runtime.start',
  ].map((name) => named(name)!);
  assert.equal(request!.parentSpanId, 'b7ad6b7169203331');
  assert.equal(start!.parentSpanId, request!.spanId);
  assert.equal(acquire!.parentSpanId, start!.spanId);
  assert.equal(runtime!.parentSpanId, start!.spanId);
  const attributes = Object.fromEntries(runtime!.attributes.map(({ key, value }) => [key, value['stringValue']]));
  assert.equal(attributes['container.name'], 't1');
  assert.equal(attributes['container.image.name'], 'bb:1');
  assert.equal(attributes['container.label.team'], 'blue');
});

test('traces: a start that fails says so on each of its spans', async () => {
  await d.ok('create', '--name', 't2', 'bb:1', '/no/such/program');
  assert.equal((await d.api('POST', '/containers/t2/start')).status, 400);
  await eventually('the span arrives', async () =>
    spans.some(({ name, status }) => name === 'runtime.start' && status.code === 2),
  );
});
