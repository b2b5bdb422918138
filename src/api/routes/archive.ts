/** Files in and out of containers. Source: moby api/server/router/container/copy.go (v28). */
import { createGzip } from 'node:zlib';
import { Readable } from 'node:stream';

import { EngineError } from '../../core/engine-error.ts';
import type { PathStat } from '../../image/port.ts';
import { bodyChunks, readJsonBody } from '../body.ts';
import { sendChunks } from '../reply.ts';
import { param, type AnyRoute, type Exchange, type Reply } from '../route.ts';
import { containerConfig, parseHealthcheck, type ContainerConfig } from '../wire/container-config.ts';
import { decodeBody, isObject } from '../wire/decode.ts';
import { parseJson } from '../wire/json-text.ts';
import { parseExposedPorts } from '../wire/port-map.ts';
import { joinRepoTag } from '../wire/reference.ts';
import type { Containers } from '../../container/port.ts';

const STAT_HEADER = 'X-Docker-Container-Path-Stat';

export const archiveRoutes: readonly AnyRoute[] = [
  { method: 'HEAD', path: '/containers/{name}/archive', handle: statPath },
  { method: 'GET', path: '/containers/{name}/archive', handle: readPath },
  { method: 'PUT', path: '/containers/{name}/archive', handle: writePath },
  { method: 'GET', path: '/containers/{name}/export', handle: exportContainer },
  { method: 'POST', path: '/commit', handle: commitContainer },
];

function path({ query }: Exchange): string {
  if (query.text('path') === '') throw new EngineError('PARAMETER_INVALID', 'bad parameter: pathcannot be empty'); // moby's words
  return query.text('path');
}

function formatStat(stat: PathStat): string {
  const { name, sizeBytes, goMode, modifiedAt, linkTarget } = stat;
  return Buffer.from(JSON.stringify({ name, size: sizeBytes, mode: goMode, mtime: modifiedAt, linkTarget })).toString(
    'base64',
  );
}

async function statPath(exchange: Exchange): Promise<Reply> {
  const stat = await exchange.parts.containers.archiveStat(param(exchange, 'name'), path(exchange));
  return { status: 200, headers: { [STAT_HEADER]: formatStat(stat) } };
}

async function readPath(exchange: Exchange): Promise<void> {
  const { parts, request, response, signal } = exchange;
  const { stat, tar } = await parts.containers.archiveRead(param(exchange, 'name'), path(exchange));
  const gzip = /\bgzip\b(?!\s*;\s*q=0(?:\.0*)?(?:,|$))/.test(String(request.headers['accept-encoding'] ?? ''));
  const chunks = gzip ? Readable.from(tar).pipe(createGzip({ level: 1 })) : tar;
  await sendChunks(response, chunks as AsyncIterable<Uint8Array>, {
    contentType: 'application/x-tar',
    signal,
    headers: { [STAT_HEADER]: formatStat(stat), ...(gzip ? { 'Content-Encoding': 'gzip' } : {}) },
  });
}

async function writePath(exchange: Exchange): Promise<Reply> {
  const { parts, query, request } = exchange;
  await parts.containers.archiveWrite(param(exchange, 'name'), path(exchange), bodyChunks(request), {
    noOverwriteDirNonDir: query.flag('noOverwriteDirNonDir'),
    copyUidGid: query.flag('copyUIDGID'),
  });
  return { status: 200 };
}

async function exportContainer(exchange: Exchange): Promise<void> {
  const tar = await exchange.parts.containers.exportTree(param(exchange, 'name'));
  await sendChunks(exchange.response, tar, { contentType: 'application/octet-stream', signal: exchange.signal });
}

async function commitContainer({ parts, query, request, by }: Exchange): Promise<Reply> {
  const body = await readJsonBody(request);
  // moby's client posts a bare Config, or null, or nothing.
  const given = body.absent ? null : parseJson(body.text);
  const config =
    isObject(given) && containerConfig.hasAny(given) ? parseCommitConfig(decodeBody(body.text, containerConfig)) : null;
  if (given !== null && !isObject(given)) decodeBody(body.text, containerConfig);
  const image = await parts.containers.commit(
    query.text('container'),
    {
      reference: joinRepoTag(query.text('repo'), query.text('tag')),
      author: query.text('author'),
      message: query.text('comment'),
      pause: query.flag('pause', true),
      changes: query
        .all('changes')
        .flatMap((change) => change.split('\n'))
        .filter((line) => line.trim() !== ''),
      config,
    },
    by,
  );
  return { status: 201, json: { Id: image.id } };
}

/** Only what is given overrides, as in moby's merge. */
function parseCommitConfig(config: ContainerConfig): NonNullable<Parameters<Containers['commit']>[1]['config']> {
  const exposedPorts = Object.keys(config.ExposedPorts ?? {});
  const volumes = Object.keys(config.Volumes ?? {});
  return {
    ...(config.User === '' ? {} : { user: config.User }),
    ...(config.Env === null ? {} : { env: config.Env }),
    ...(config.Entrypoint === null ? {} : { entrypoint: config.Entrypoint }),
    ...(config.Cmd === null ? {} : { cmd: config.Cmd }),
    ...(config.WorkingDir === '' ? {} : { workingDir: config.WorkingDir }),
    ...(config.Labels === null ? {} : { labels: config.Labels }),
    ...(exposedPorts.length === 0 ? {} : { exposedPorts: parseExposedPorts(exposedPorts) }),
    ...(volumes.length === 0 ? {} : { volumes }),
    ...(config.StopSignal === '' ? {} : { stopSignal: config.StopSignal }),
    ...(config.Healthcheck === null ? {} : { healthcheck: parseHealthcheck(config.Healthcheck) }),
    ...(config.OnBuild === null ? {} : { onBuild: config.OnBuild }),
    ...(config.Shell === null ? {} : { shell: config.Shell }),
  };
}
