/**
 * OpenTelemetry spans, when the OTEL_* variables of the environment ask for them: an API request is one, what it does
 * down to the runtime is below it. The library is loaded only then. Which variables: docs/metrics.md.
 * Source: OpenTelemetry specification, "environment variable specification" and OTLP exporter (v1.3x).
 */
import type * as Api from '@opentelemetry/api';
import type { Context, Span, Tracer } from '@opentelemetry/api';
import type * as Sdk from '@opentelemetry/sdk-trace-base';
import type { SpanExporter } from '@opentelemetry/sdk-trace-base';

import { EngineError, messageOf } from '../core/engine-error.ts';
import type { Watcher } from './port.ts';
import { whenEnded } from './observe-port.ts';

export interface Tracing extends Watcher, AsyncDisposable {}

type Environment = Readonly<Record<string, string | undefined>>;

const EXPORTERS = ['otlp', 'console', 'none'] as const;
const PROTOCOLS = ['http/protobuf', 'http/json'] as const;

/** What of OTEL_* decides whether and how traces leave; null: they are not wanted. @throws PARAMETER_INVALID */
export function tracingAsked(env: Environment): {
  readonly exporter: (typeof EXPORTERS)[number];
  readonly protocol: (typeof PROTOCOLS)[number];
} | null {
  if (env['OTEL_SDK_DISABLED']?.toLowerCase() === 'true') return null;
  const endpoint = env['OTEL_EXPORTER_OTLP_TRACES_ENDPOINT'] || env['OTEL_EXPORTER_OTLP_ENDPOINT'];
  // Without an endpoint nobody asked: the specification's default (localhost) would be a surprise in a daemon.
  const exporter = env['OTEL_TRACES_EXPORTER'] || (endpoint === undefined || endpoint === '' ? 'none' : 'otlp');
  const protocol =
    env['OTEL_EXPORTER_OTLP_TRACES_PROTOCOL'] || env['OTEL_EXPORTER_OTLP_PROTOCOL'] || ('http/protobuf' as const);
  const chosen = {
    exporter: oneOf('OTEL_TRACES_EXPORTER', exporter, EXPORTERS),
    protocol: oneOf('OTEL_EXPORTER_OTLP_PROTOCOL', protocol, PROTOCOLS),
  };
  return chosen.exporter === 'none' ? null : chosen;
}

function oneOf<T extends string>(name: string, text: string, allowed: readonly T[]): T {
  const found = allowed.find((value) => value === text);
  if (found === undefined)
    throw new EngineError('PARAMETER_INVALID', `${name}: ${text} is none of ${allowed.join(', ')}`);
  return found;
}

/** `exporter` instead of what the environment asks for: tests. @throws PARAMETER_INVALID */
export async function openTracing(
  env: Environment,
  { version, exporter }: { readonly version: string; readonly exporter?: SpanExporter },
): Promise<Tracing | null> {
  const asked = tracingAsked(env);
  if (asked === null && exporter === undefined) return null;
  const [api, sdk, resources, hooks, core] = await Promise.all([
    import('@opentelemetry/api'),
    import('@opentelemetry/sdk-trace-base'),
    import('@opentelemetry/resources'),
    import('@opentelemetry/context-async-hooks'),
    import('@opentelemetry/core'),
  ]);
  const send = exporter ?? (await openExporter(asked!, sdk));
  const provider = new sdk.BasicTracerProvider({
    resource: resources
      .defaultResource()
      .merge(resources.resourceFromAttributes({ 'service.name': 'longshore', 'service.version': version }))
      .merge(resources.detectResources({ detectors: [resources.envDetector] })),
    spanProcessors: [exporter === undefined ? new sdk.BatchSpanProcessor(send) : new sdk.SimpleSpanProcessor(send)],
  });
  // Not the global ones: a program that embeds the engine may have its own.
  const contexts = new hooks.AsyncLocalStorageContextManager().enable();
  const propagator = new core.CompositePropagator({
    propagators: [new core.W3CTraceContextPropagator(), new core.W3CBaggagePropagator()],
  });
  const tracer = provider.getTracer('longshore', version);
  return new OtelTracing({
    api,
    tracer,
    contexts,
    parentOf: (headers) => propagator.extract(api.ROOT_CONTEXT, headers, api.defaultTextMapGetter),
    close: async () => {
      await provider.shutdown();
      contexts.disable();
    },
  });
}

async function openExporter(
  { exporter, protocol }: NonNullable<ReturnType<typeof tracingAsked>>,
  sdk: typeof Sdk,
): Promise<SpanExporter> {
  if (exporter === 'console') return new sdk.ConsoleSpanExporter();
  const { OTLPTraceExporter } =
    protocol === 'http/json'
      ? await import('@opentelemetry/exporter-trace-otlp-http')
      : await import('@opentelemetry/exporter-trace-otlp-proto');
  return new OTLPTraceExporter();
}

interface Parts {
  readonly api: typeof Api;
  readonly tracer: Tracer;
  readonly contexts: {
    active(): Context;
    with<A extends unknown[], F extends (...args: A) => ReturnType<F>>(context: Context, fn: F): ReturnType<F>;
  };
  readonly parentOf: (headers: object) => Context;
  readonly close: () => Promise<void>;
}

class OtelTracing implements Tracing {
  readonly #parts: Parts;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  readonly watch: Watcher['watch'] = ({ operation, attributes }, run) => {
    const { api, tracer, contexts } = this.#parts;
    const parent = contexts.active();
    const span = tracer.startSpan(operation, {}, parent);
    return whenEnded(
      () => contexts.with(api.trace.setSpan(parent, span), run),
      (error) => {
        // Only now: what is started may not have a name before, and what is removed not after.
        if (span.isRecording()) span.setAttributes(attributes());
        this.#end(span, error);
      },
    );
  };

  readonly watchRequest: Watcher['watchRequest'] = async ({ method, route, headers }, serve) => {
    const { api, tracer, contexts, parentOf } = this.#parts;
    const parent = parentOf(headers);
    const agent = headers['user-agent'];
    const span = tracer.startSpan(
      route === '' ? method : `${method} ${route}`,
      {
        kind: api.SpanKind.SERVER,
        attributes: {
          'http.request.method': method,
          ...(route === '' ? {} : { 'http.route': route }),
          ...(agent === undefined ? {} : { 'user_agent.original': agent }),
        },
      },
      parent,
    );
    const answered = (status: number): void => {
      span.setAttribute('http.response.status_code', status);
      if (status >= 500) span.setStatus({ code: api.SpanStatusCode.ERROR });
    };
    try {
      await contexts.with(api.trace.setSpan(parent, span), () => serve(answered));
      this.#end(span, null);
    } catch (error) {
      this.#end(span, error);
      throw error;
    }
  };

  #end(span: Span, error: unknown): void {
    if (error !== null) {
      const message = messageOf(error);
      span.recordException({
        name: error instanceof EngineError ? error.code : error instanceof Error ? error.name : 'Error',
        message,
      });
      span.setStatus({ code: this.#parts.api.SpanStatusCode.ERROR, message });
    }
    span.end();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#parts.close().catch(() => {}); // A collector that is gone must not keep the daemon from ending.
  }
}
