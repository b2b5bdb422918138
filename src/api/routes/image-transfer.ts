/** Images that come and go: pull, push, import, load, save. Source: moby api/server/router/image (v28). */
import { EngineError } from '../../core/engine-error.ts';
import { parsePlatform } from '../../image/platform-text.ts';
import type { Platform, Progress } from '../../image/port.ts';
import { figures, withProgress, type Report } from '../../image/registry/progress-queue.ts';
import type { RemoteFile } from '../../image/registry/remote-file.ts';
import { bodyChunks } from '../body.ts';
import { sendChunks } from '../reply.ts';
import { param, type AnyRoute, type Exchange } from '../route.ts';
import { formatError, formatProgress } from '../wire/progress.ts';
import { parsePlatformJson } from '../wire/platform.ts';
import { joinImageTag, joinRepoTag } from '../wire/reference.ts';
import { parseAuthHeader } from '../wire/registry-auth.ts';

export const imageTransferRoutes: readonly AnyRoute[] = [
  { method: 'POST', path: '/images/create', handle: createImage },
  { method: 'POST', path: '/images/load', handle: loadImages },
  {
    method: 'GET',
    path: '/images/get',
    handle: (exchange) =>
      saveImages(
        exchange,
        exchange.query.all('names').flatMap((names) => names.split(',')),
      ),
  },
  { method: 'GET', path: '/images/{name}/get', handle: (exchange) => saveImages(exchange, [param(exchange, 'name')]) },
  { method: 'POST', path: '/images/{name}/push', handle: pushImage },
];

async function createImage(exchange: Exchange): Promise<void> {
  const { parts, query, minor, request, signal } = exchange;
  const platform = minor < 32 ? null : parsePlatform(query.text('platform'));
  const image = query.text('fromImage');
  if (image !== '') {
    const { reference, allTags } = joinImageTag(image, query.text('tag'));
    const familiar = reference.split(/[:@]/, 1)[0]!.replace(/^(?:docker\.io\/)?(?:library\/)?/, '');
    if (familiar === 'scratch') throw new EngineError('IMAGE_NAME_RESERVED', "'scratch' is a reserved name");
    const auth = parseAuthHeader(request.headers['x-registry-auth']);
    return sendProgress(exchange, parts.images.pull({ reference, allTags, platform, auth, signal }));
  }
  await importImage(exchange, platform);
}

/** From the body, or from a URL. */
async function importImage(exchange: Exchange, platform: Platform | null): Promise<void> {
  const { parts, query, request, signal } = exchange;
  const from = query.text('fromSrc');
  const reference = joinRepoTag(query.text('repo'), query.text('tag'));
  const url = from === '-' || from.includes('://') ? from : `http://${from}`;
  const remote = from === '-' ? null : await openRemote(exchange, from);
  const imported = withProgress(signal, async (report) => {
    if (remote !== null) report({ kind: 'status', text: `Downloading from ${url}` });
    const { id } = await parts.images.importTar({
      source: remote === null ? bodyChunks(request) : counted(remote, report),
      reference,
      message: query.text('message') || `Imported from ${url}`,
      changes: query
        .all('changes')
        .flatMap((change) => change.split('\n'))
        .filter((line) => line.trim() !== ''),
      platform,
    });
    report({ kind: 'status', text: id });
  });
  await sendProgress(exchange, imported);
}

async function openRemote({ parts, signal }: Exchange, url: string): Promise<RemoteFile> {
  if (parts.registry === undefined)
    throw new EngineError('FEATURE_UNSUPPORTED', 'importing from a URL is not supported');
  return await parts.registry.open(url, signal);
}

async function* counted({ content, sizeBytes }: RemoteFile, report: Report): AsyncGenerator<Uint8Array> {
  const progress = figures(report, undefined, 'Importing', sizeBytes ?? 0);
  let bytes = 0;
  for await (const chunk of content) {
    yield chunk;
    progress((bytes += chunk.length));
  }
}

async function loadImages(exchange: Exchange): Promise<void> {
  const { parts, query, minor, request } = exchange;
  const platforms = minor < 48 ? [] : query.all('platform');
  if (platforms.length > 1) throw new EngineError('PARAMETER_INVALID', 'multiple platform parameters not supported');
  const progress = parts.images.load(bodyChunks(request), {
    quiet: query.flag('quiet', true),
    platform: parsePlatformJson(platforms[0] ?? ''),
  });
  // moby has sent its headers by the time it looks at the archive: errors come in the stream.
  await sendProgress(exchange, progress, { headersFirst: true });
}

async function pushImage(exchange: Exchange): Promise<void> {
  const { parts, query, minor, request, signal } = exchange;
  const tag = query.text('tag');
  const name = param(exchange, 'name');
  const reference = tag === '' ? name : joinRepoTag(name, tag)!;
  const platform = minor < 46 ? null : parsePlatformJson(query.text('platform'));
  const { allTags } = joinImageTag(reference, '');
  const auth = parseAuthHeader(request.headers['x-registry-auth']);
  await sendProgress(exchange, parts.images.push({ reference, allTags, platform, auth, signal }));
}

async function saveImages(
  { parts, query, minor, response, signal }: Exchange,
  names: readonly string[],
): Promise<void> {
  const platforms = minor < 48 ? [] : query.all('platform');
  if (platforms.length > 1) throw new EngineError('PARAMETER_INVALID', 'multiple platform parameters not supported');
  const tar = parts.images.save(names, { platform: parsePlatformJson(platforms[0] ?? '') });
  await sendChunks(response, tar, { contentType: 'application/x-tar', signal });
}

export async function sendProgress(
  { response, signal }: Exchange,
  progress: AsyncIterable<Progress>,
  options: { readonly headersFirst?: boolean } = {},
): Promise<void> {
  const lines = async function* (): AsyncGenerator<string> {
    for await (const line of progress) yield formatProgress(line);
  };
  await sendChunks(response, lines(), {
    contentType: 'application/json',
    signal,
    onLateError: formatError,
    ...options,
  });
}
