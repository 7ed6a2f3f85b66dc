// An in-cluster program with JavaScript informers: nothing but loadFromCluster and makeInformer as their documentation has them.
// Whoever connects to the unix socket that it listens on is sent one line of JSON that tells what it holds.
//
//     informers.mjs SOCKET NAMESPACE
import net from "node:net";
import * as k8s from "@kubernetes/client-node";

// An informer stops at an error that is not 410; starting it again is the program's own work.
const RESTART_AFTER_MS = 1000;

const [socket, namespace] = process.argv.slice(2);
const config = new k8s.KubeConfig();
config.loadFromCluster();
const core = config.makeApiClient(k8s.CoreV1Api);
const apps = config.makeApiClient(k8s.AppsV1Api);
const storage = config.makeApiClient(k8s.StorageV1Api);
const custom = config.makeApiClient(k8s.CustomObjectsApi);

const example = { group: "example.dev", version: "v1" };
const labelSelector = "tier=front";

const kinds = {
  configmaps: follow("/api/v1/configmaps", () => core.listConfigMapForAllNamespaces()),
  secrets: follow(`/api/v1/namespaces/${namespace}/secrets`, () => core.listNamespacedSecret({ namespace })),
  services: follow("/api/v1/services", () => core.listServiceForAllNamespaces({ labelSelector }), labelSelector),
  deployments: follow(`/apis/apps/v1/namespaces/${namespace}/deployments`, () =>
    apps.listNamespacedDeployment({ namespace }),
  ),
  storageclasses: follow("/apis/storage.k8s.io/v1/storageclasses", () => storage.listStorageClass()),
  widgets: follow(`/apis/example.dev/v1/namespaces/${namespace}/widgets`, () =>
    custom.listNamespacedCustomObject({ ...example, namespace, plural: "widgets" }),
  ),
  ovens: follow("/apis/example.dev/v1/ovens", () => custom.listClusterCustomObject({ ...example, plural: "ovens" })),
};

function follow(path, list, selector) {
  const kind = { synced: false, changed: 0, lists: 0 };
  const listOnce = async () => {
    kind.lists += 1;
    const listed = await list();
    kind.synced = true;
    return listed;
  };
  const informer = k8s.makeInformer(config, path, listOnce, selector);
  const start = () => informer.start().catch(restart);
  const restart = (error) => {
    console.error(path, error.message ?? error);
    setTimeout(start, RESTART_AFTER_MS);
  };
  informer.on("error", restart);
  informer.on("change", () => (kind.changed = Date.now()));
  start();
  const line = ({ metadata }) => `${metadata.uid} ${metadata.resourceVersion}`;
  return { toJSON: () => ({ ...kind, objects: informer.list().map(line).sort() }) };
}

net.createServer((asker) => {
  // An asker that went away is no fault of this program.
  asker.on("error", () => {});
  asker.end(JSON.stringify({ kinds }));
}).listen(socket);
