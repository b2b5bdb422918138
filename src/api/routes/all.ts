/** Every route, in the order in which they are tried. docs/ and meta-tests read this list. */
import type { AnyRoute } from '../route.ts';
import { archiveRoutes } from './archive.ts';
import { buildRoutes } from './build.ts';
import { containerRoutes } from './containers.ts';
import { containerStreamRoutes } from './container-streams.ts';
import { execRoutes } from './exec.ts';
import { imageRoutes } from './images.ts';
import { imageTransferRoutes } from './image-transfer.ts';
import { networkRoutes } from './networks.ts';
import { pluginRoutes } from './plugins.ts';
import { swarmRoutes } from './swarm.ts';
import { systemRoutes } from './system.ts';
import { volumeRoutes } from './volumes.ts';
import { whyRoutes } from './why.ts';

export const ROUTES: readonly AnyRoute[] = [
  ...systemRoutes,
  ...containerRoutes,
  ...containerStreamRoutes,
  ...whyRoutes,
  ...archiveRoutes,
  ...execRoutes,
  ...imageRoutes,
  ...imageTransferRoutes,
  ...networkRoutes,
  ...volumeRoutes,
  ...buildRoutes,
  ...pluginRoutes,
  ...swarmRoutes,
];
