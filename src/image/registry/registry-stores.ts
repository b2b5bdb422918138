/** What pulls and pushes share. */
import type { ImageStores } from '../image-stores.ts';

import type { Downloads } from './downloads.ts';
import type { RegistryOptions } from './endpoint.ts';
import type { LayerSources } from './layer-sources.ts';
import type { Semaphore } from './semaphore.ts';
import type { Turns } from './turns.ts';

export interface RegistryStores {
  readonly images: ImageStores;
  readonly downloads: Downloads;
  readonly sources: LayerSources;
  readonly uploads: Semaphore;
  /** By chain ID. */
  readonly unpacking: Turns;
  readonly options: RegistryOptions;
}
