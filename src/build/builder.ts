/**
 * The classic builder: a Dockerfile's instructions one after the other, each an image of its own, so that the next
 * build finds it again. Prints what Docker's prints. Source: moby builder/dockerfile (v28).
 */
import { posix } from 'node:path';

import type { Containers } from '../container/port.ts';
import { EngineError, messageOf } from '../core/engine-error.ts';
import { newId, shortId } from '../core/id.ts';
import type { Logger } from '../core/log.ts';
import { EMPTY_CONFIG } from '../image/image-config.ts';
import type { Digest, Image, ImageConfig, Images, Platform, Progress, TreeArchive } from '../image/port.ts';
import { addSources } from './add-step.ts';
import { openStepCache } from './cache.ts';
import { openContext } from './context.ts';
import { copyDigest, findItems, type CopyPart, type CopySource } from './copy-source.ts';
import { copyFlags, makeWorkdir, ownership, unpackPart, type LookUpOwner } from './copy-step.ts';
import type { Fetch } from './download.ts';
import { checkInstruction } from './dockerfile/check.ts';
import { expandWord, expandWords } from './dockerfile/expand.ts';
import { parseError, parseInstruction, type Instruction } from './dockerfile/parse.ts';
import { printed, printedRed, quietly } from './output.ts';
import { planStages, type PlannedStage } from './plan.ts';
import { stagePlatform } from './platform.ts';
import type { BuildRequest, Builder } from './port.ts';
import { runStep, StepFailed } from './run-step.ts';
import {
  commentLine,
  configStep,
  keyArguments,
  PREDEFINED,
  runArguments,
  runCommand,
  variables,
  type Stage,
} from './stage.ts';

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
  #escape = '\\';
  #step = 0;
  #count = 0;

  constructor(needs: BuilderNeeds, request: BuildRequest, signal: AbortSignal) {
    this.#needs = needs;
    this.#request = request;
    this.#signal = signal;
  }

  run(): AsyncGenerator<Progress> {
    return this.#request.quiet ? quietly(this.#steps()) : this.#steps();
  }

  /** Returns the image, or null when the last line is an error. */
  async *#steps(): AsyncGenerator<Progress, Digest | null> {
    await using _undo = this.#undo;
    const { context, dockerfile } = await openContext(this.#needs, this.#request, this.#undo);
    this.#context = context;
    this.#escape = dockerfile.escape;
    for (const instruction of dockerfile.instructions) checkInstruction(instruction);
    const { stages, globals } = planStages(dockerfile, this.#request);
    const labels = Object.entries(this.#request.labels).toSorted(([a], [b]) => (a < b ? -1 : 1));
    this.#count = stages.reduce((sum, stage) => sum + 1 + stage.instructions.length, 0) + labels.length + globals.count;
    this.#step = globals.count;
    for (const name of globals.values.keys()) this.#usedArguments.add(name);
    try {
      for (const warning of dockerfile.warnings) yield printedRed(`${warning}\n`);
      for (const planned of stages) {
        const stage = yield* this.#buildStage(planned, globals.values);
        if (planned === stages.at(-1)) for (const label of labels) yield* this.#addLabel(stage, label);
        if (stage.imageId !== '') yield { kind: 'aux', value: { ID: stage.imageId } };
      }
      yield* this.#warnOfUnused();
      const { imageId } = this.#stages.at(-1)!;
      if (imageId === '') throw new EngineError('BODY_INVALID', 'No image was generated. Is your Dockerfile empty?');
      yield* this.#finish(imageId);
      return imageId;
    } catch (error) {
      if (!(error instanceof EngineError)) this.#needs.logger.error({ error: messageOf(error) }, 'a build failed');
      yield { kind: 'error', message: messageOf(error), ...(error instanceof StepFailed && { code: error.exitCode }) };
      return null;
    }
  }

  /** Build arguments that no ARG asked for; proxies need none. */
  async *#warnOfUnused(): AsyncGenerator<Progress> {
    const unused = Object.keys(this.#request.buildArgs)
      .filter((name) => !this.#usedArguments.has(name) && !PREDEFINED.has(name))
      .toSorted();
    if (unused.length > 0) yield printed(`[Warning] One or more build-args [${unused.join(' ')}] were not consumed\n`);
  }

  async *#finish(imageId: Digest): AsyncGenerator<Progress> {
    yield printed(`Successfully built ${shortId(imageId)}\n`);
    for (const tag of this.#request.tags) {
      await this.#needs.images.tag(imageId, tag);
      yield printed(`Successfully tagged ${/[:@][^/]*$/.test(tag) ? tag : `${tag}:latest`}\n`);
    }
  }

  async *#buildStage(planned: PlannedStage, globals: ReadonlyMap<string, string>): AsyncGenerator<Progress, Stage> {
    if (planned.name !== '' && this.#stages.some(({ name }) => name === planned.name))
      throw new EngineError('BODY_INVALID', `${planned.name} stage name already used`);
    const base = expandWord(planned.base, globals, this.#escape);
    yield* this.#announce(planned.from.original);
    if (base === '') throw new EngineError('BODY_INVALID', `base name (${planned.base}) should not be blank`);
    const stage: Stage = {
      index: planned.index,
      name: planned.name,
      imageId: '',
      config: EMPTY_CONFIG,
      author: '',
      cache: this.#request.noCache ? null : openStepCache(this.#needs.images, this.#request.cacheFrom),
      platform:
        planned.platform === null
          ? this.#request.platform
          : stagePlatform(planned.platform, globals, this.#escape, this.#request.platform),
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
      const image = yield* this.#baseImage(base, stage.platform);
      Object.assign(stage, { imageId: image.id, config: { ...image.config, onBuild: null }, author: image.author });
      triggers = image.config.onBuild ?? [];
    }
    if (!(stage.config.env ?? []).some((entry) => entry.startsWith('PATH=')))
      stage.config = { ...stage.config, env: [DEFAULT_PATH, ...(stage.config.env ?? [])] };
    this.#stages.push(stage);
    yield* this.#arrow(stage.imageId);
    if (triggers.length > 0) {
      yield printed(`# Executing ${triggers.length} build trigger${triggers.length > 1 ? 's' : ''}\n`);
      for (const trigger of triggers) {
        const instruction = parseInstruction(trigger, planned.from.line);
        checkInstruction(instruction);
        yield* this.#perform(stage, instruction, globals);
      }
    }
    for (const instruction of planned.instructions) {
      yield* this.#announce(instruction.original);
      yield* this.#perform(stage, instruction, globals);
    }
    return stage;
  }

  async *#baseImage(reference: string, asked: Platform | null): AsyncGenerator<Progress, Image> {
    const { images } = this.#needs;
    const platform = asked ?? undefined;
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
      platform: asked,
      auth: this.#request.auths[registry] ?? null,
      signal: this.#signal,
    })) {
      if (progress.kind === 'error') throw new EngineError('IMAGE_NOT_FOUND', progress.message);
      yield progress;
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
      case 'WORKDIR':
        return yield* this.#workdir(stage, instruction);
      default: {
        const { config, comment } = configStep(stage, instruction, this.#escape);
        const probe = stage.config.healthcheck?.test ?? [];
        if (instruction.name === 'HEALTHCHECK' && probe.length > 0 && probe[0] !== 'NONE')
          yield printed(`Note: overriding previous HEALTHCHECK: [${probe.join(' ')}]\n`);
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

  /** --label: a step of its own each, whose variables stay as they are. */
  async *#addLabel(stage: Stage, [name, value]: readonly [string, string]): AsyncGenerator<Progress> {
    const comment = `LABEL ${name}=${value}`;
    yield* this.#announce(comment);
    yield* this.#deriveStep(stage, { ...stage.config, labels: { ...stage.config.labels, [name]: value } }, comment);
  }

  /** The directory is made here, so that COPY --from another stage finds it. */
  async *#workdir(stage: Stage, instruction: Instruction): AsyncGenerator<Progress> {
    const { config, comment } = configStep(stage, instruction, this.#escape);
    const cmd = commentLine(config, comment, ' ');
    if (yield* this.#fromCache(stage, cmd, config)) return;
    const imageId = await this.#commitFiles(stage, config, cmd, (root) =>
      makeWorkdir(this.#needs.treeArchive, root, config.workingDir),
    );
    yield* this.#advance(stage, imageId, config);
  }

  async *#deriveStep(stage: Stage, config: ImageConfig, comment: string): AsyncGenerator<Progress> {
    const cmd = commentLine(config, comment, '  ');
    if (yield* this.#fromCache(stage, cmd, config)) return;
    const image = await this.#needs.images.derive(stage.imageId, {
      config,
      containerConfig: { ...config, cmd },
      author: stage.author,
      platform: stage.platform,
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
    const cmd = key.length === 0 ? command : [`|${key.length}`, ...key, ...command];
    if (yield* this.#fromCache(stage, cmd, stage.config)) return;
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
          for (const warning of news.warnings) yield printed(` ---> [Warning] ${warning}\n`);
          yield printed(` ---> Running in ${shortId(containerId)}\n`);
        } else yield news.isError ? printedRed(news.output) : printed(news.output);
      }
      failed = false;
      const image = await this.#needs.images.snapshots.commit(containerId, {
        config: stage.config,
        containerConfig: { ...stage.config, cmd },
        reference: null,
        author: stage.author,
        message: '',
        parentId: stage.imageId,
      });
      if (this.#request.remove || this.#request.forceRemove) yield* this.#removeContainer(containerId);
      yield* this.#advance(stage, image.id, stage.config);
    } finally {
      if (failed && containerId !== '' && (this.#request.forceRemove || this.#signal.aborted))
        yield* this.#removeContainer(containerId);
    }
  }

  async *#removeContainer(id: string): AsyncGenerator<Progress> {
    try {
      const { containers } = this.#needs;
      await containers.remove(id, { force: true, volumes: true, link: false }, { description: 'docker build' });
      yield printed(` ---> Removed intermediate container ${shortId(id)}\n`);
    } catch (error) {
      this.#needs.logger.warn({ container: id, error: messageOf(error) }, "a build's container could not be removed");
      yield printed(`Removing intermediate container ${shortId(id)}: ${messageOf(error)}\n`);
    }
  }

  async *#copy(stage: Stage, instruction: Instruction): AsyncGenerator<Progress> {
    const known = variables(stage);
    const words = (instruction.json ?? expandWords(instruction.rest, known, this.#escape)).map((word) =>
      instruction.json === null ? word : expandWord(word, known, this.#escape),
    );
    if (instruction.heredocs.length > 0)
      throw new EngineError('OPTION_UNSUPPORTED', `here-documents in ${instruction.name} require BuildKit`);
    const flags = copyFlags(instruction, known, this.#escape);
    const target = words.at(-1)!;
    const destination = posix.resolve('/', stage.config.workingDir, target);
    const asDirectory = /\/\.?$/.test(target) || target === '.';
    await using cleanup = new AsyncDisposableStack();
    const source = flags.from === '' ? this.#context! : await this.#otherSource(flags.from, cleanup);
    const parts = await this.#copyParts(instruction.name, source, words.slice(0, -1), cleanup);
    if (!asDirectory && parts.reduce((sum, { items }) => sum + items.length, 0) > 1)
      throw new EngineError(
        'BODY_INVALID',
        `When using ${instruction.name} with more than one source file, the destination must be a directory and end with a /`,
      );
    const digest = await copyDigest(parts);
    const options = [flags.chown && `--chown=${flags.chown} `, flags.chmod && `--chmod=${flags.chmod} `].join('');
    const cmd = commentLine(stage.config, `${instruction.name} ${options}${digest} in ${target} `, ' ');
    if (yield* this.#fromCache(stage, cmd, stage.config)) return;
    const imageId = await this.#commitFiles(stage, stage.config, cmd, async (root) => {
      const owner = await ownership(this.#needs, root, flags, instruction);
      for (const part of parts)
        await unpackPart(this.#needs.treeArchive, root, part, { destination, asDirectory, owner });
    });
    yield* this.#advance(stage, imageId, stage.config);
  }

  async #copyParts(
    name: string,
    source: CopySource,
    words: readonly string[],
    cleanup: AsyncDisposableStack,
  ): Promise<readonly CopyPart[]> {
    try {
      if (name === 'COPY' && words.some((word) => /^https?:\/\//.test(word)))
        throw new EngineError('BODY_INVALID', "source can't be a URL for COPY");
      const parts =
        name === 'ADD'
          ? await addSources(this.#needs, source, words, this.#needs.scratchDir, cleanup)
          : [{ source, items: await findItems(source, words), unpack: null }];
      if (parts.every(({ items }) => items.length === 0))
        throw new EngineError('BODY_INVALID', 'no source files were specified');
      return parts;
    } catch (error) {
      if (!(error instanceof EngineError)) throw error;
      throw new EngineError(error.code, `${name} failed: ${error.message}`, { cause: error });
    }
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
          `invalid from flag value ${from}: ${Number(from) === this.#stages.length - 1 ? 'refers to current build stage' : 'index out of bounds'}`,
        );
      try {
        const pulling = this.#baseImage(from, this.#request.platform);
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
    return { archive: this.#needs.treeArchive, root, hidden: new Set(), isContext: false };
  }

  /** A top of its own over an image ("": over nothing), mounted until `cleanup` is disposed. */
  async #mountTop(imageId: Digest, cleanup: AsyncDisposableStack, id = newId()): Promise<string> {
    const { snapshots } = this.#needs.images;
    await snapshots.create(id, imageId, { init: false });
    cleanup.defer(() => snapshots.remove(id));
    return snapshots.mount(id, { readOnly: false, volatile: true });
  }

  async #commitFiles(
    stage: Stage,
    config: ImageConfig,
    cmd: readonly string[],
    write: (root: string) => Promise<void>,
  ): Promise<Digest> {
    await using cleanup = new AsyncDisposableStack();
    const id = newId();
    await write(await this.#mountTop(stage.imageId, cleanup, id));
    await this.#needs.images.snapshots.unmount(id);
    const image = await this.#needs.images.snapshots.commit(id, {
      config,
      containerConfig: { ...config, cmd },
      reference: null,
      author: stage.author,
      message: '',
      parentId: stage.imageId,
    });
    return image.id;
  }

  async *#fromCache(stage: Stage, cmd: readonly string[], config: ImageConfig): AsyncGenerator<Progress, boolean> {
    const image = (await stage.cache?.find(stage.imageId, cmd.join(' '), config)) ?? null;
    if (image === null) stage.cache = null;
    if (image === null) return false;
    yield printed(' ---> Using cache\n');
    yield* this.#advance(stage, image.id, config);
    return true;
  }

  async *#advance(stage: Stage, imageId: Digest, config: ImageConfig): AsyncGenerator<Progress> {
    stage.imageId = imageId;
    stage.config = config;
    yield* this.#arrow(imageId);
  }

  *#announce(original: string): Generator<Progress> {
    yield printed(`Step ${++this.#step}/${this.#count} : ${original}\n`);
  }

  *#arrow(imageId: Digest): Generator<Progress> {
    yield printed(` ---> ${shortId(imageId)}\n`);
  }
}
