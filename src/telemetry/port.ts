/** How work is watched: what other rooms and daemon/ see of metrics and traces. */
import type { IncomingHttpHeaders } from 'node:http';

export type Attributes = Readonly<Record<string, string | number | boolean>>;

/** A piece of work by name ("container.start"); `attributes` is only called when somebody wants them. */
export interface Work {
  readonly operation: string;
  readonly attributes: () => Attributes;
}

/** Runs `run` and sees when it ends, and whether it failed. What `run` returns or throws is handed on unchanged. */
export type Watch = <R>(work: Work, run: () => R) => R;

/** Runs what answers a request. `serve` calls `answered` once the answer's status is known: with its first byte. */
export type WatchRequest = (
  request: {
    readonly method: string;
    /** As in the table of routes: "/containers/{name}/json"; "" for none of them. */
    readonly route: string;
    readonly headers: IncomingHttpHeaders;
  },
  serve: (answered: (status: number) => void) => Promise<void>,
) => Promise<void>;

/** One of the things that watch. */
export interface Watcher {
  readonly watch: Watch;
  readonly watchRequest: WatchRequest;
}
