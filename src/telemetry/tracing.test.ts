import assert from 'node:assert/strict';
import { test } from 'node:test';

import { tracingAsked } from './tracing.ts';

test('tracingAsked: traces are made when OTEL_* says where to, and what cannot be honoured is refused by name', () => {
  const otlp = { exporter: 'otlp', protocol: 'http/protobuf' };
  const endpoint = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:4318' };
  assert.equal(tracingAsked({}), null);
  assert.equal(tracingAsked({ OTEL_EXPORTER_OTLP_ENDPOINT: '' }), null);
  assert.deepEqual(tracingAsked(endpoint), otlp);
  assert.deepEqual(tracingAsked({ OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'http://x/v1/traces' }), otlp);
  assert.deepEqual(tracingAsked({ OTEL_TRACES_EXPORTER: 'otlp' }), otlp);
  assert.deepEqual(tracingAsked({ ...endpoint, OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json' }), {
    ...otlp,
    protocol: 'http/json',
  });
  assert.equal(tracingAsked({ ...endpoint, OTEL_SDK_DISABLED: 'TRUE' }), null);
  assert.equal(tracingAsked({ ...endpoint, OTEL_TRACES_EXPORTER: 'none' }), null);
  assert.throws(() => tracingAsked({ ...endpoint, OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc' }), {
    code: 'PARAMETER_INVALID',
    message: 'OTEL_EXPORTER_OTLP_PROTOCOL: grpc is none of http/protobuf, http/json',
  });
  assert.throws(() => tracingAsked({ OTEL_TRACES_EXPORTER: 'zipkin' }), { code: 'PARAMETER_INVALID' });
});
