/** Gives a tar another first name: "_data/x" becomes "data/x" where the root of a volume is copied under its place in the container. */
import { pipeline, Readable } from 'node:stream';

import { extract, pack } from 'tar-stream';

export function rebaseTar(tar: AsyncIterable<Uint8Array>, from: string, to: string): AsyncIterable<Uint8Array> {
  const reader = extract();
  const writer = pack();
  const base = from === '/' ? '' : from; // below "/" the slash is the separator
  const rename = (name: string): string => {
    if (name === from && base !== '') return to;
    return name.startsWith(`${base}/`) ? to + name.slice(base.length) : name;
  };
  reader.on('entry', (header, content, next) => {
    const linkname = header.type === 'link' && header.linkname ? rename(header.linkname) : header.linkname;
    // The extended header's own path would win over the new name.
    const pax = Object.fromEntries(
      Object.entries(header.pax ?? {}).filter(([key]) => key !== 'path' && key !== 'linkpath'),
    );
    const renamed = { ...header, name: rename(header.name), linkname: linkname ?? null, pax };
    const entry = writer.entry(renamed, (error) => next(error ?? undefined));
    pipeline(content, entry, (error) => {
      if (error) writer.destroy(error);
    });
  });
  const source = Readable.from(tar);
  pipeline(source, reader, (error) => {
    if (error) writer.destroy(error);
    else writer.finalize();
  });
  writer.on('close', () => source.destroy());
  return Readable.from(writer);
}
