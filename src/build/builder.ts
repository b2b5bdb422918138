/**
 * The classic builder: a Dockerfile's instructions one after the other, each an image of its own, so that the next
 * build finds it again. Prints what Docker's prints. Source: moby builder/dockerfile (v28).
 */
import { mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { join, posix } from 'node:path';

import type { Containers } from '../container/port.ts';
import { EngineError, messageOf } from '../core/engine-error.ts';
import { newId, shortId } from '../core/id.ts';
import type { Logger } from '../core/log.ts';
import { EMPTY_CONFIG } from '../image/image-config.ts';
import type { Digest, Image, ImageConfig, Images, Progress, TreeArchive } from '../image/port.ts';
import { addSources } from './add-step.ts';
import { findCached } from './cache.ts';
import { copyDigest, findItems, type CopySource } from './copy-source.ts';
import { copyFlags, ownership, unpackPart, type LookUpOwner } from './copy-step.ts';
import { remoteContext, type Fetch } from './download.ts';
import { expandWord, expandWords } from './dockerfile/expand.ts';
import { parseIgnore } from './dockerfile/ignore.ts';
import {
  parseDockerfile,
  parseError,
  parseInstruction,
  type Dockerfile,
  type Instruction,
} from './dockerfile/parse.ts';
import { planStages, type PlannedStage } from './plan.ts';
import type { BuildRequest, Builder } from './port.ts';
import { runStep, StepFailed } from './run-step.ts';
import { commandLine, configStep, keyArguments, PREDEFINED, runArguments, variables, type Stage } from './stage.ts';

export interface BuilderNeeds {
  readonly images: Images;
  readonly containers: Containers;
  readonly treeArchive: TreeArchive;
  /** Where contexts are unpacked; made anew at boot. */
  readonly scratchDir: string;
  readonly removeTree: (path: string) => Promise<void>;
  readonly lookUpOwner: LookUpOwner;
  readonly fetch: Fetch;
  readonly logger: Logger;
}

const DOCKERFILE = 'Dockerfile';
const DEFAULT_PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

export function createBuilder(needs: BuilderNeeds): Builder {
  return { build: (request, signal) => new Build(needs, request, signal).run() };
}

/** One build. What it makes for a while (context, tops, containers) goes with it, however it ends. */
class Build {
  readonly #needs: BuilderNeeds;
  readonly #request: BuildRequest;
  readonly #signal: AbortSignal;
  readonly #stages: Stage[] = [];
  readonly #undo = new AsyncDisposableStack();
  readonly #usedArguments = new Set<string>();
  #context: CopySource | null = null;
  #dockerfileName: string;
  #escape = '\\';
  #step = 0;
  #steps = 0;

  constructor(needs: BuilderNeeds, request: BuildRequest, signal: AbortSignal) {
    this.#needs = needs;
    this.#request = request;
    this.#dockerfileName = request.dockerfile || DOCKERFILE;
    this.#signal = signal;
  }

  async *run(): AsyncGenerator<Progress> {
    await using _undo = this.#undo;
    this.#context = await this.#unpackContext();
    const dockerfile = await this.#readDockerfile(this.#context);
    this.#escape = dockerfile.escape;
    const { stages, target, globals } = planStages(dockerfile, this.#request);
    this.#steps =
      stages.reduce((sum, stage) => sum + 1 + stage.instructions.length, 0) +
      (Object.keys(this.#request.labels).length > 0 ? 1 : 0) +
      globals.count;
    this.#step = globals.count;
    for (const name of globals.values.keys()) this.#usedArguments.add(name);
    try {
      for (const planned of stages) yield* this.#buildStage(planned, globals.values);
      const stage = this.#stages[target]!;
      yield* this.#warnOfUnused();
      if (Object.keys(this.#request.labels).length > 0) yield* this.#addLabels(stage);
      if (stage.imageId === '')
        throw new EngineError('BODY_INVALID', 'No image was generated. Is your Dockerfile empty?');
      yield* this.#finish(stage.imageId);
    } catch (error) {
      if (!(error instanceof EngineError)) this.#needs.logger.error({ error: messageOf(error) }, 'a build failed');
      yield { kind: 'error', message: messageOf(error), ...(error instanceof StepFailed && { code: error.exitCode }) };
    }
  }

  /** Build arguments that no ARG asked for; proxies need none. */
  async *#warnOfUnused(): AsyncGenerator<Progress> {
    const unused = Object.keys(this.#request.buildArgs)
      .filter((name) => !this.#usedArguments.has(name) && !PREDEFINED.has(name))
      .toSorted();
    if (unused.length > 0)
      yield* this.#say(`[Warning] One or more build-args [${unused.join(' ')}] were not consumed\n`);
  }

  async *#finish(imageId: Digest): AsyncGenerator<Progress> {
    if (this.#request.quiet) yield { kind: 'stream', text: `${imageId}\n` };
    else {
      yield { kind: 'aux', value: { ID: imageId } };
      yield { kind: 'stream', text: `Successfully built ${shortId(imageId)}\n` };
    }
    for (const tag of this.#request.tags) {
      await this.#needs.images.tag(imageId, tag);
      if (!this.#request.quiet)
        yield { kind: 'stream', text: `Successfully tagged ${/[:@][^/]*$/.test(tag) ? tag : `${tag}:latest`}\n` };
    }
  }

  async #unpackContext(): Promise<CopySource> {
    const root = await mkdtemp(join(this.#needs.scratchDir, 'context-'));
    this.#undo.defer(() => this.#needs.removeTree(root));
    await this.#fillContext(root);
    const ignore = await readFile(join(root, '.dockerignore'), 'utf8').catch(() => '');
    return { archive: this.#needs.treeArchive, root, ignore: parseIgnore(ignore) };
  }

  async #fillContext(root: string): Promise<void> {
    const { remote } = this.#request;
    const found = remote === '' ? null : await remoteContext(this.#needs.fetch, remote);
    if (found?.isDockerfile === true) {
      this.#dockerfileName = DOCKERFILE; // whatever name was asked for: it is all there is
      return await writeFile(join(root, DOCKERFILE), found.chunks, { mode: 0o600, flag: 'wx' });
    }
    const tar = found?.chunks ?? this.#request.context;
    await this.#needs.treeArchive.write(root, '/', tar, { noOverwriteDirNonDir: false, copyUidGid: false });
  }

  async #readDockerfile(context: CopySource): Promise<Dockerfile> {
    const name = this.#dockerfileName;
    // Read through the archive: a Dockerfile that is a link to the host's files must not be followed.
    // "dockerfile" will do where nobody named one, as moby has it.
    const text =
      (await readTextFile(context, name)) ??
      (name === DOCKERFILE ? await readTextFile(context, DOCKERFILE.toLowerCase()) : null);
    if (text === null) throw new EngineError('BODY_INVALID', `Cannot locate specified Dockerfile: ${name}`);
    return parseDockerfile(text);
  }

  async *#buildStage(planned: PlannedStage, globals: ReadonlyMap<string, string>): AsyncGenerator<Progress> {
    const base = expandWord(planned.base, globals, this.#escape);
    yield* this.#announce(planned.from.original);
    const stage: Stage = {
      index: planned.index,
      name: planned.name,
      imageId: '',
      config: EMPTY_CONFIG,
      author: '',
      cached: !this.#request.noCache,
      args: new Map(),
      ownCmd: false,
    };
    const earlier = this.#stages.find(
      ({ name, index }) => (name !== '' && name === base.toLowerCase()) || String(index) === base,
    );
    let triggers: readonly string[] = [];
    if (earlier !== undefined) {
      Object.assign(stage, {
        imageId: earlier.imageId,
        config: { ...earlier.config, onBuild: null },
        author: earlier.author,
      });
      triggers = earlier.config.onBuild ?? [];
    } else if (base !== 'scratch') {
      const image = yield* this.#baseImage(base);
      Object.assign(stage, { imageId: image.id, config: { ...image.config, onBuild: null }, author: image.author });
      triggers = image.config.onBuild ?? [];
    }
    if (base === '') throw parseError(planned.from.line, `base name (${planned.base}) should not be blank`);
    if (!(stage.config.env ?? []).some((entry) => entry.startsWith('PATH=')))
      stage.config = { ...stage.config, env: [DEFAULT_PATH, ...(stage.config.env ?? [])] };
    this.#stages.push(stage);
    if (stage.imageId !== '') yield* this.#arrow(stage.imageId);
    if (triggers.length > 0) {
      yield* this.#say(`# Executing ${triggers.length} build trigger${triggers.length > 1 ? 's' : ''}\n`);
      for (const trigger of triggers)
        yield* this.#perform(stage, parseInstruction(trigger, planned.from.line), globals);
    }
    for (const instruction of planned.instructions) {
      yield* this.#announce(instruction.original);
      yield* this.#perform(stage, instruction, globals);
    }
  }

  async *#baseImage(reference: string): AsyncGenerator<Progress, Image> {
    const { images } = this.#needs;
    const platform = this.#request.platform ?? undefined;
    if (!this.#request.pull) {
      try {
        return images.resolve(reference, platform);
      } catch (error) {
        if (!(error instanceof EngineError) || error.code !== 'IMAGE_NOT_FOUND') throw error;
      }
    }
    const registry = /^([^/]*[.:][^/]*|localhost)\//.exec(reference)?.[1] ?? 'https://index.docker.io/v1/';
    for await (const progress of images.pull({
      reference,
      allTags: false,
      platform: this.#request.platform,
      auth: this.#request.auths[registry] ?? null,
      signal: this.#signal,
    })) {
      if (progress.kind === 'error') throw new EngineError('IMAGE_NOT_FOUND', progress.message);
      if (!this.#request.quiet) yield progress;
    }
    return images.resolve(reference, platform);
  }

  async *#perform(
    stage: Stage,
    instruction: Instruction,
    globals: ReadonlyMap<string, string>,
  ): AsyncGenerator<Progress> {
    this.#signal.throwIfAborted();
    switch (instruction.name) {
      case 'ARG':
        return yield* this.#arg(stage, instruction, globals);
      case 'RUN':
        return yield* this.#run(stage, instruction);
      case 'COPY':
      case 'ADD':
        return yield* this.#copy(stage, instruction);
      default: {
        const { config, comment } = configStep(stage, instruction, this.#escape);
        if (instruction.name === 'CMD') stage.ownCmd = true;
        if (instruction.name === 'MAINTAINER') stage.author = instruction.rest;
        return yield* this.#deriveStep(stage, config, comment);
      }
    }
  }

  async *#arg(stage: Stage, instruction: Instruction, globals: ReadonlyMap<string, string>): AsyncGenerator<Progress> {
    for (const text of expandWords(instruction.rest, variables(stage), this.#escape)) {
      const [, name = '', fallback] = /^([^=]*)(?:=([\s\S]*))?$/.exec(text)!;
      if (name === '') throw parseError(instruction.line, 'ARG names can not be blank');
      this.#usedArguments.add(name);
      stage.args.set(name, this.#request.buildArgs[name] ?? fallback ?? globals.get(name) ?? null);
    }
    yield* this.#deriveStep(stage, stage.config, `ARG ${instruction.rest}`);
  }

  async *#addLabels(stage: Stage): AsyncGenerator<Progress> {
    const pairs = Object.entries(this.#request.labels).toSorted(([a], [b]) => (a < b ? -1 : 1));
    const comment = `LABEL ${pairs.map(([name, value]) => `${name}=${value}`).join(' ')}`;
    yield* this.#announce(comment);
    yield* this.#deriveStep(
      stage,
      { ...stage.config, labels: { ...stage.config.labels, ...this.#request.labels } },
      comment,
    );
  }

  async *#deriveStep(stage: Stage, config: ImageConfig, comment: string): AsyncGenerator<Progress> {
    const createdBy = `/bin/sh -c #(nop)  ${comment}`;
    if (yield* this.#fromCache(stage, createdBy, config)) return;
    const image = await this.#needs.images.derive(stage.imageId, {
      config,
      author: stage.author,
      createdBy,
      platform: this.#request.platform,
    });
    yield* this.#advance(stage, image.id, config);
  }

  async *#run(stage: Stage, instruction: Instruction): AsyncGenerator<Progress> {
    if (stage.imageId === '')
      throw new EngineError('BODY_INVALID', 'Please provide a source image with `from` prior to run');
    const unsupported = instruction.flags[0];
    if (unsupported !== undefined)
      throw new EngineError(
        'OPTION_UNSUPPORTED',
        `the --${unsupported.name} option requires BuildKit. Refer to https://docs.docker.com/go/buildkit/ to learn how to build images with BuildKit enabled`,
      );
    const command = runCommand(instruction, stage.config);
    const key = keyArguments(stage, this.#request.buildArgs);
    const createdBy = (key.length === 0 ? '' : `|${key.length} ${key.join(' ')} `) + command.join(' ');
    if (yield* this.#fromCache(stage, createdBy, stage.config)) return;
    let containerId = '';
    let failed = true;
    try {
      const step = {
        imageId: stage.imageId,
        config: stage.config,
        command,
        buildArguments: runArguments(stage, this.#request.buildArgs),
        shown: command.join(' '),
      };
      for await (const news of runStep(this.#needs.containers, step, this.#request, this.#signal)) {
        if ('containerId' in news) {
          containerId = news.containerId;
          yield* this.#say(` ---> Running in ${shortId(containerId)}\n`);
        } else yield* this.#say(news.output);
      }
      failed = false;
      const image = await this.#needs.images.snapshots.commit(containerId, {
        config: stage.config,
        reference: null,
        author: stage.author,
        message: '',
        createdBy,
        parentId: stage.imageId,
      });
      if (this.#request.remove || this.#request.forceRemove) {
        await this.#removeContainer(containerId);
        yield* this.#say(`Removing intermediate container ${shortId(containerId)}\n`);
      }
      yield* this.#advance(stage, image.id, stage.config);
    } finally {
      if (failed && containerId !== '' && (this.#request.forceRemove || this.#signal.aborted))
        await this.#removeContainer(containerId);
    }
  }

  async #removeContainer(id: string): Promise<void> {
    await this.#needs.containers
      .remove(id, { force: true, volumes: true, link: false }, { description: 'docker build' })
      .catch((error: unknown) => {
        this.#needs.logger.warn({ container: id, error: messageOf(error) }, "a build's container could not be removed");
      });
  }

  async *#copy(stage: Stage, instruction: Instruction): AsyncGenerator<Progress> {
    const known = variables(stage);
    const words = (instruction.json ?? expandWords(instruction.rest, known, this.#escape)).map((word) =>
      instruction.json === null ? word : expandWord(word, known, this.#escape),
    );
    if (words.length < 2 || instruction.heredocs.length > 0) {
      throw instruction.heredocs.length > 0
        ? new EngineError('OPTION_UNSUPPORTED', `here-documents in ${instruction.name} require BuildKit`)
        : parseError(
            instruction.line,
            `${instruction.name} requires at least two arguments, but only one was provided. Destination could not be determined.`,
          );
    }
    const flags = copyFlags(instruction, known, this.#escape);
    const target = words.at(-1)!;
    const destination = posix.resolve('/', stage.config.workingDir, target);
    const asDirectory = words.length > 2 || /\/\.?$/.test(target) || target === '.';
    if (words.length > 2 && !/\/\.?$/.test(target) && target !== '.')
      throw parseError(
        instruction.line,
        `When using ${instruction.name} with more than one source file, the destination must be a directory and end with a /`,
      );
    await using cleanup = new AsyncDisposableStack();
    const source = flags.from === '' ? this.#context! : await this.#otherSource(flags.from, cleanup);
    const added =
      instruction.name === 'ADD'
        ? await addSources(this.#needs, source, words.slice(0, -1), this.#needs.scratchDir, cleanup)
        : null;
    const parts = added ?? [{ source, items: await findItems(source, words.slice(0, -1)), unpack: null }];
    const digest = (
      await Promise.all(
        parts.map(async (part) => (part.unpack === null ? copyDigest(part.source, part.items) : part.unpack.digest)),
      )
    ).join(' ');
    const options = [flags.chown && `--chown=${flags.chown} `, flags.chmod && `--chmod=${flags.chmod} `].join('');
    const createdBy = `/bin/sh -c #(nop) ${instruction.name} ${options}${digest} in ${target} `;
    if (yield* this.#fromCache(stage, createdBy, stage.config)) return;
    const imageId = await this.#commitFiles(stage, createdBy, async (root) => {
      const owner = await ownership(this.#needs, root, flags, instruction);
      for (const part of parts)
        await unpackPart(this.#needs.treeArchive, root, part, { destination, asDirectory, owner });
    });
    yield* this.#advance(stage, imageId, stage.config);
  }

  /** --from: an earlier stage, or any image. */
  async #otherSource(from: string, cleanup: AsyncDisposableStack): Promise<CopySource> {
    const stage = this.#stages
      .slice(0, -1)
      .find(({ name, index }) => name === from.toLowerCase() || String(index) === from);
    let imageId = stage?.imageId;
    if (stage === undefined) {
      if (/^\d+$/.test(from))
        throw new EngineError(
          'BODY_INVALID',
          `invalid from flag value ${from}: ${Number(from) === this.#stages.length - 1 ? 'refers to current build stage' : 'invalid context value'}`,
        );
      try {
        const pulling = this.#baseImage(from);
        let next = await pulling.next();
        while (next.done !== true) next = await pulling.next();
        imageId = next.value.id;
      } catch (error) {
        throw new EngineError('BODY_INVALID', `invalid from flag value ${from}: ${messageOf(error)}`, { cause: error });
      }
    }
    if (imageId === undefined || imageId === '')
      throw new EngineError('BODY_INVALID', `invalid from flag value ${from}: it holds no files`);
    const root = await this.#mountTop(imageId, cleanup);
    return { archive: this.#needs.treeArchive, root, ignore: [] };
  }

  /** A top of its own over an image ("": over nothing), mounted until `cleanup` is disposed. */
  async #mountTop(imageId: Digest, cleanup: AsyncDisposableStack, id = newId()): Promise<string> {
    const { snapshots } = this.#needs.images;
    await snapshots.create(id, imageId);
    cleanup.defer(() => snapshots.remove(id));
    return snapshots.mount(id, { readOnly: false, volatile: true });
  }

  async #commitFiles(stage: Stage, createdBy: string, write: (root: string) => Promise<void>): Promise<Digest> {
    await using cleanup = new AsyncDisposableStack();
    const id = newId();
    await write(await this.#mountTop(stage.imageId, cleanup, id));
    await this.#needs.images.snapshots.unmount(id);
    const image = await this.#needs.images.snapshots.commit(id, {
      config: stage.config,
      reference: null,
      author: stage.author,
      message: '',
      createdBy,
      parentId: stage.imageId,
    });
    return image.id;
  }

  async *#fromCache(stage: Stage, createdBy: string, config: ImageConfig): AsyncGenerator<Progress, boolean> {
    if (!stage.cached) return false;
    const image = findCached(this.#needs.images, stage.imageId, createdBy, config);
    stage.cached = image !== null;
    if (image === null) return false;
    yield* this.#say(' ---> Using cache\n');
    yield* this.#advance(stage, image.id, config);
    return true;
  }

  async *#advance(stage: Stage, imageId: Digest, config: ImageConfig): AsyncGenerator<Progress> {
    stage.imageId = imageId;
    stage.config = config;
    yield* this.#arrow(imageId);
  }

  *#announce(original: string): Generator<Progress> {
    yield* this.#say(`Step ${++this.#step}/${this.#steps} : ${original}\n`);
  }

  *#arrow(imageId: Digest): Generator<Progress> {
    yield* this.#say(` ---> ${shortId(imageId)}\n`);
  }

  *#say(text: string): Generator<Progress> {
    if (!this.#request.quiet) yield { kind: 'stream', text };
  }
}

/** A here-document is the script itself, or the standard input of the command before it. */
function runCommand(instruction: Instruction, config: ImageConfig): readonly string[] {
  const [heredoc] = instruction.heredocs;
  if (heredoc === undefined) return commandLine(instruction, config);
  const script = /^<<-?\s*["']?[\w.]+["']?$/.test(instruction.rest.trim())
    ? heredoc.content
    : `${instruction.rest}\n${instruction.heredocs.map(({ content, name }) => `${content}${name}`).join('\n')}`;
  return commandLine({ ...instruction, rest: script }, config);
}

/** null when there is no such file. */
async function readTextFile(source: CopySource, path: string): Promise<string | null> {
  const read = await source.archive.read(source.root, posix.resolve('/', path)).catch(() => null);
  if (read === null) return null;
  const { extract } = await import('tar-stream');
  const entries = extract();
  const { Readable } = await import('node:stream');
  Readable.from(read.tar)
    .on('error', (error) => entries.destroy(error))
    .pipe(entries);
  for await (const entry of entries) {
    const chunks: Uint8Array[] = [];
    for await (const chunk of entry) chunks.push(chunk as Uint8Array);
    return Buffer.concat(chunks).toString('utf8');
  }
  return null;
}
