/** The drivers for log services, by the name that `--log-driver` takes. */
import { awslogs } from './awslogs.ts';
import type { LogDriver } from './driver.ts';
import { fluentd } from './fluentd.ts';
import { gcplogs } from './gcplogs.ts';
import { gelf } from './gelf.ts';
import { journald } from './journald.ts';
import { splunk } from './splunk.ts';
import { syslog } from './syslog.ts';

const DRIVERS: readonly LogDriver[] = [awslogs, fluentd, gcplogs, gelf, journald, splunk, syslog];

export const SERVICE_DRIVERS: ReadonlyMap<string, LogDriver> = new Map(DRIVERS.map((driver) => [driver.name, driver]));
