/* milvus_client.js BASE FOLDER PASSWORD_BASE - every method of the published client of Milvus' REST interface
 * (@zilliz/milvus2-sdk-node, HttpClient) against a server, with answers that were worked out here.
 *
 * FOLDER is the one that BASE serves. PASSWORD_BASE is a server with a token; the token is in $TOKEN. */
'use strict';
const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const {HttpClient, HttpError} = require('@zilliz/milvus2-sdk-node');

const [base, folder, guarded] = process.argv.slice(2);

/* ---- A client that notes which methods were called ---- */

const methods = new Set();
for (let p = HttpClient.prototype; p && p !== Object.prototype; p = Object.getPrototypeOf(p))
    for (const name of Object.getOwnPropertyNames(p)) {
        const {value} = Object.getOwnPropertyDescriptor(p, name);
        if (typeof value === 'function' && !['constructor', 'POST', 'GET', '_handleResponse'].includes(name)) methods.add(name);
    }
const called = new Set();

function watched(client) {
    return new Proxy(client, {
        get(target, name) {
            const value = target[name];
            if (!methods.has(name)) return value;
            return async (...given) => {
                const answer = await value.apply(target, given);
                if (answer.code === 0) called.add(name);
                return answer;
            };
        },
    });
}

async function data(promise) {
    const answer = await promise;
    assert.equal(answer.code, 0, JSON.stringify(answer));
    return answer.data;
}

async function fails(promise, code) {
    const answer = await promise;
    assert.equal(answer.code, code, JSON.stringify(answer));
    assert.ok(answer.message);
}

/* ---- Rows, and their exact neighbours ---- */

let seed = 12345;
const draw = () => ((seed = (seed * 1103515245 + 12345) & 0x7fffffff) / 0x40000000) - 1;
const vector = dim => Array.from({length: dim}, () => Math.fround(draw()));
const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);
const cosine = (a, b) => dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
const l2 = (a, b) => a.reduce((sum, x, i) => sum + (x - b[i]) ** 2, 0);
const near = (a, b) => assert.ok(Math.abs(a - b) < 1e-4, `${a} is not ${b}`);

/* [[id, distance]] of an answer are those wanted, in this order. */
function same(found, wanted) {
    assert.deepEqual(found.map(r => String(r.id)), wanted.map(w => String(w[0])));
    found.forEach((r, i) => near(r.distance, wanted[i][1]));
}

async function collections(client) {
    await data(client.createCollection({collectionName: 'quick', dimension: 4}));
    await data(client.createCollection({
        collectionName: 'made',
        schema: {
            autoId: false, enableDynamicField: true,
            fields: [
                {fieldName: 'my_id', dataType: 'Int64', isPrimary: true},
                {fieldName: 'title', dataType: 'FloatVector', elementTypeParams: {dim: 4}},
                {fieldName: 'body', dataType: 'FloatVector', elementTypeParams: {dim: 5}},
                {fieldName: 'color', dataType: 'VarChar', elementTypeParams: {max_length: 20}},
            ],
        },
    }));
    assert.deepEqual((await data(client.listCollections())).sort(), ['made', 'quick']);
    assert.equal((await data(client.hasCollection({collectionName: 'quick'}))).has, true);
    assert.equal((await data(client.hasCollection({collectionName: 'none'}))).has, false);
    const quick = await data(client.describeCollection({collectionName: 'quick'}));
    assert.deepEqual(quick.fields.map(f => [f.name, f.type, f.primaryKey]), [['id', 'Int64', true], ['vector', 'FloatVector', false]]);
    assert.deepEqual(quick.indexes, [{fieldName: 'vector', indexName: 'vector', metricType: 'COSINE'}]);
    assert.equal(quick.shardsNum, 1);
    assert.equal(quick.enableDynamicField, true);
    assert.equal((await data(client.describeCollection({collectionName: 'made'}))).load, 'LoadStateNotLoad');
    await data(client.loadCollection({collectionName: 'made'}));
    assert.deepEqual(await data(client.getCollectionLoadState({collectionName: 'made'})),
        {loadState: 'LoadStateLoaded', loadProgress: 100, message: ''});
    await data(client.releaseCollection({collectionName: 'made'}));
    assert.equal((await data(client.getCollectionLoadState({collectionName: 'made'}))).loadState, 'LoadStateNotLoad');
    await data(client.refreshLoad({collectionName: 'made'}));
    await data(client.alterCollectionProperties({collectionName: 'quick', properties: {'collection.ttl.seconds': 3600}}));
    assert.deepEqual((await data(client.describeCollection({collectionName: 'quick'}))).properties,
        [{key: 'collection.ttl.seconds', value: '3600'}]);
    await data(client.dropCollectionProperties({collectionName: 'quick', propertyKeys: ['collection.ttl.seconds']}));
    assert.deepEqual((await data(client.describeCollection({collectionName: 'quick'}))).properties, []);
    await data(client.addCollectionField({
        collectionName: 'quick',
        schema: {fieldName: 'added', dataType: 'VarChar', nullable: true, defaultValue: 'usual', elementTypeParams: {max_length: 255}},
    }));
    await data(client.alterCollectionFieldProperties({collectionName: 'quick', fieldName: 'added', fieldParams: {max_length: 6}}));
    const changed = await data(client.describeCollection({collectionName: 'quick'}));
    assert.deepEqual(changed.fields[2].params, [{key: 'max_length', value: '6'}]);
}

async function indexes(client) {
    const indexParams = [{fieldName: 'title', indexName: 'by_title', metricType: 'L2', params: {index_type: 'IVF_FLAT', nlist: 128}},
                         {fieldName: 'body', indexName: 'by_body', metricType: 'IP', params: {index_type: 'HNSW', M: '8'}}];
    await data(client.createIndex({collectionName: 'made', indexParams}));
    assert.deepEqual(await data(client.listIndexes({collectionName: 'made'})), ['by_title', 'by_body']);
    await data(client.alterIndexProperties({collectionName: 'made', indexName: 'by_title', properties: {'mmap.enabled': true}}));
    const [told] = await data(client.describeIndex({collectionName: 'made', indexName: 'by_title'}));
    assert.deepEqual([told.fieldName, told.indexType, told.metricType, told.indexState, told.totalRows], ['title', 'IVF_FLAT', 'L2', 'Finished', 0]);
    assert.equal(told.params['mmap.enabled'], true);
    await data(client.dropIndexProperties({collectionName: 'made', indexName: 'by_title', propertyKeys: ['mmap.enabled']}));
    assert.equal((await data(client.describeIndex({collectionName: 'made', indexName: 'by_title'})))[0].params['mmap.enabled'], undefined);
    await data(client.dropIndex({collectionName: 'made', indexName: 'by_body'}));
    assert.deepEqual(await data(client.listIndexes({collectionName: 'made'})), ['by_title']);
}

async function entities(client) {
    const colors = ['red', 'green', 'blue'];
    const rows = Array.from({length: 120}, (_, i) => ({id: i, vector: vector(4), color: colors[i % 3], year: 1900 + i}));
    const inserted = await data(client.insert({collectionName: 'quick', data: rows}));
    assert.equal(inserted.insertCount, 120);
    assert.deepEqual(inserted.insertIds, rows.map(r => String(r.id)));
    const q = vector(4);
    const truth = rows.map(r => [r.id, cosine(q, r.vector)]).sort((a, b) => b[1] - a[1]);
    same(await data(client.search({collectionName: 'quick', data: [q], limit: 5})), truth.slice(0, 5));
    const two = await data(client.search({collectionName: 'quick', data: [q, rows[7].vector], limit: 5, outputFields: ['*']}));
    assert.equal(two.length, 2);
    same(two[0], truth.slice(0, 5));
    assert.equal(two[1][0].id, '7');
    assert.deepEqual([two[1][0].color, two[1][0].added, two[1][0].vector], ['green', 'usual', rows[7].vector]);
    const filtered = await data(client.search({collectionName: 'quick', data: [q], filter: 'color == "red" and year >= 1950', limit: 5, outputFields: ['year']}));
    same(filtered, truth.filter(t => t[0] % 3 === 0 && t[0] >= 50).slice(0, 5));
    const grouped = await data(client.search({collectionName: 'quick', data: [q], limit: 3, groupingField: 'color', outputFields: ['color']}));
    same(grouped, colors.map((_, c) => truth.find(t => t[0] % 3 === c)).sort((a, b) => b[1] - a[1]));
    const radius = truth[20][1];
    const within = await data(client.search({collectionName: 'quick', data: [q], limit: 100, searchParams: {params: {radius: radius - 1e-6, range_filter: truth[4][1] + 1e-6}}}));
    same(within, truth.slice(4, 21));

    assert.deepEqual((await data(client.get({collectionName: 'quick', id: [3, '5', 999], outputFields: ['year']}))), [{id: '3', year: 1903}, {id: '5', year: 1905}]);
    assert.deepEqual((await data(client.upsert({collectionName: 'quick', data: [{...rows[3], color: 'black'}]}))), {upsertCount: 1, upsertIds: ['3']});
    assert.deepEqual(await data(client.query({collectionName: 'quick', filter: 'color == "black"', outputFields: ['color']})), [{id: '3', color: 'black'}]);
    const page = await data(client.query({collectionName: 'quick', filter: 'year > 1990', outputFields: ['year'], limit: 3, offset: 2}));
    assert.deepEqual(page.map(r => r.year), [1993, 1994, 1995]);
    assert.deepEqual(await data(client.query({collectionName: 'quick', outputFields: ['count(*)']})), [{'count(*)': '120'}]);
    await data(client.delete({collectionName: 'quick', filter: 'id in [0, 1, 2]'}));
    await data(client.flushCollection({collectionName: 'quick'}));
    assert.equal((await data(client.getCollectionStatistics({collectionName: 'quick'}))).rowCount, 117);
    const {compactionID} = await data(client.compactCollection({collectionName: 'quick'}));
    let state;
    do state = (await data(client.getCompactionState({collectionName: 'quick', compactionID}))).state;
    while (state === 'Executing');
    assert.equal(state, 'Completed');
    await fails(client.query({collectionName: 'quick', filter: 'color ==', outputFields: ['*']}), 1100);
    await fails(client.search({collectionName: 'none', data: [q]}), 100);
}

async function hybrid(client) {
    const docs = Array.from({length: 80}, (_, i) => ({my_id: `${i}`, title: vector(4), body: vector(5), color: i % 2 ? 'odd' : 'even', i}));
    await data(client.insert({collectionName: 'made', data: docs}));
    const a = vector(4), b = vector(5);
    const title = docs.map(d => [d.my_id, l2(a, d.title)]).sort((x, y) => x[1] - y[1]).slice(0, 10);
    const body = docs.filter(d => d.i % 2).map(d => [d.my_id, dot(b, d.body)]).sort((x, y) => y[1] - x[1]).slice(0, 10);
    const search = [{data: [a], annsField: 'title', limit: 10}, {data: [b], annsField: 'body', limit: 10, filter: 'color == "odd"'}];
    const norms = [d => 1 - 2 * Math.atan(d) / Math.PI, d => 0.5 + Math.atan(d) / Math.PI];
    for (const [rerank, score] of [
        [{strategy: 'rrf', params: {k: 5}}, (part, rank) => 1 / (5 + rank + 1)],
        [{strategy: 'weighted', params: {weights: [0.8, 0.3]}}, (part, rank, d) => [0.8, 0.3][part] * norms[part](d)]]) {
        const scores = new Map();
        [title, body].forEach((list, part) => list.forEach(([id, d], rank) => scores.set(id, (scores.get(id) ?? 0) + score(part, rank, d))));
        const wanted = [...scores].sort((x, y) => y[1] - x[1]).slice(0, 7);
        const found = await data(client.hybridSearch({collectionName: 'made', search, rerank, limit: 7, outputFields: ['color', 'i']}));
        assert.equal(found.length, 7);
        found.forEach((r, i) => {
            near(r.distance, wanted[i][1]); /* ties may come in another order */
            near(r.distance, scores.get(r.my_id));
            assert.equal(r.color, r.i % 2 ? 'odd' : 'even');
        });
    }
}

async function partitions(client) {
    const where = {collectionName: 'made', partitionName: 'part'};
    assert.deepEqual(await data(client.listPartitions({collectionName: 'made'})), ['_default']);
    await data(client.createPartition(where));
    assert.deepEqual(await data(client.listPartitions({collectionName: 'made'})), ['_default', 'part']);
    assert.equal((await data(client.hasPartition(where))).has, true);
    await data(client.insert({...where, data: [{my_id: '9007199254740993', title: [1, 2, 3, 4], body: [1, 2, 3, 4, 5], color: 'part'}]}));
    assert.equal((await data(client.getPartitionStatistics(where))).rowCount, 1);
    const [row] = await data(client.query({collectionName: 'made', partitionNames: ['part'], outputFields: ['color']}));
    assert.deepEqual(row, {my_id: '9007199254740993', color: 'part'}); /* beyond what a number of JavaScript holds */
    await data(client.loadPartitions({collectionName: 'made', partitionNames: ['part']}));
    await data(client.releasePartitions({collectionName: 'made', partitionNames: ['part']}));
    await data(client.dropPartition(where));
    assert.equal((await data(client.hasPartition(where))).has, false);
    assert.equal((await data(client.getCollectionStatistics({collectionName: 'made'}))).rowCount, 80);
}

async function names(client) {
    await data(client.createAlias({collectionName: 'made', aliasName: 'current'}));
    assert.deepEqual(await data(client.describeAlias({aliasName: 'current'})), {aliasName: 'current', collectionName: 'made', dbName: 'default'});
    assert.deepEqual(await data(client.listAliases({})), ['current']);
    assert.equal((await data(client.query({collectionName: 'current', outputFields: ['count(*)']})))[0]['count(*)'], '80');
    await data(client.alterAlias({collectionName: 'quick', aliasName: 'current'}));
    assert.equal((await data(client.query({collectionName: 'current', outputFields: ['count(*)']})))[0]['count(*)'], '117');
    await data(client.dropAlias({aliasName: 'current'}));
    assert.deepEqual(await data(client.listAliases({})), []);

    await data(client.createDatabase({dbName: 'shop', properties: {'database.replica.number': 1}}));
    assert.deepEqual(await data(client.listDatabases()), ['default', 'shop']);
    await data(client.alterDatabaseProperties({dbName: 'shop', properties: {'database.max.collections': 10}}));
    await data(client.dropDatabaseProperties({dbName: 'shop', propertyKeys: ['database.replica.number']}));
    const told = await data(client.describeDatabase({dbName: 'shop'}));
    assert.deepEqual([told.dbName, told.properties], ['shop', [{key: 'database.max.collections', value: '10'}]]);
    await data(client.renameCollection({collectionName: 'made', newCollectionName: 'moved', newDbName: 'shop'}));
    const inside = watched(new HttpClient({endpoint: base, database: 'shop', acceptInt64: true}));
    assert.deepEqual(await data(inside.listCollections({dbName: 'shop'})), ['moved']);
    const [seven] = await data(inside.get({collectionName: 'moved', id: 7, outputFields: ['i']}));
    assert.deepEqual(seven, {my_id: 7, i: 7});
    await data(inside.dropCollection({collectionName: 'moved'}));
    await data(client.dropDatabase({dbName: 'shop'}));
    assert.deepEqual(await data(client.listDatabases()), ['default']);
}

async function imports(client) {
    fs.writeFileSync(path.join(folder, 'rows.json'), JSON.stringify({rows: [{id: 500, vector: [1, 2, 3, 4], color: 'imported'}]}));
    const {jobId} = await data(client.createImportJobs({collectionName: 'quick', files: [['/rows.json']]}));
    const progress = await data(client.getImportJobProgress({jobId}));
    assert.deepEqual([progress.jobId, progress.state, progress.progress, progress.importedRows], [jobId, 'Completed', 100, 1]);
    const {records} = await data(client.listImportJobs({collectionName: 'quick'}));
    assert.deepEqual(records, [{collectionName: 'quick', jobId, progress: 100, state: 'Completed'}]);
    assert.equal((await data(client.get({collectionName: 'quick', id: 500, outputFields: ['color']})))[0].color, 'imported');
}

async function people(client) {
    await data(client.createUser({userName: 'ann', password: 'secret1'}));
    await data(client.createRole({roleName: 'readers'}));
    assert.deepEqual(await data(client.listUsers()), ['ann']);
    assert.deepEqual(await data(client.listRoles()), ['admin', 'public', 'readers']);
    const grant = {roleName: 'readers', objectType: 'Collection', objectName: 'open', privilege: 'Search'};
    await data(client.grantPrivilegeToRole(grant));
    assert.deepEqual(await data(client.describeRole({roleName: 'readers'})),
        [{objectType: 'Collection', objectName: 'open', privilege: 'Search', dbName: 'default'}]);
    await data(client.grantRoleToUser({userName: 'ann', roleName: 'readers'}));
    assert.deepEqual(await data(client.describeUser({userName: 'ann'})), ['readers']);
    await data(client.updateUserPassword({userName: 'ann', password: 'secret1', newPassword: 'secret2'}));
    await fails(client.updateUserPassword({userName: 'ann', password: 'secret1', newPassword: 'secret3'}), 1400);
    return grant;
}

async function nobody(client, grant) {
    await data(client.revokePrivilegeFromRole(grant));
    assert.deepEqual(await data(client.describeRole({roleName: 'readers'})), []);
    await data(client.revokeRoleFromUser({userName: 'ann', roleName: 'readers'}));
    assert.deepEqual(await data(client.describeUser({userName: 'ann'})), []);
    await data(client.dropUser({userName: 'ann'}));
    await data(client.dropRole({roleName: 'readers'}));
    assert.deepEqual(await data(client.listUsers()), []);
}

/* A server with tokens: passwords count, and so do privileges. */
async function guard() {
    const status = async promise => promise.then(a => a.code, e => (assert.ok(e instanceof HttpError), e.status));
    const admin = watched(new HttpClient({endpoint: guarded, token: process.env.TOKEN}));
    const grant = await people(admin);
    for (const collectionName of ['open', 'closed']) await data(admin.createCollection({collectionName, dimension: 2}));
    const query = {data: [[1, 2]], collectionName: 'open'};
    const ann = new HttpClient({endpoint: guarded, username: 'ann', password: 'secret2'});
    assert.equal(await status(new HttpClient({endpoint: guarded}).listCollections()), 401);
    assert.equal(await status(new HttpClient({endpoint: guarded, username: 'ann', password: 'secret1'}).listCollections()), 401);
    assert.equal(await status(new HttpClient({endpoint: guarded, username: 'eve', password: 'secret2'}).listCollections()), 401);
    assert.equal(await status(ann.search(query)), 0); /* her first call: its body is read although her password must be looked at */
    assert.equal(await status(ann.listCollections()), 0);
    assert.equal(await status(ann.search({...query, collectionName: 'closed'})), 403);
    assert.equal(await status(ann.insert({...query, data: [{id: 1, vector: [1, 2]}]})), 403);
    assert.equal(await status(ann.createUser({userName: 'eve', password: 'secret'})), 403);
    for (const [who, code] of [['ann:secret2', 200], ['ann:secret1', 401], ['', 401]]) { /* the other adapter, whose clients say it so */
        const headers = {Authorization: `Basic ${Buffer.from(who).toString('base64')}`};
        assert.equal((await fetch(`${guarded}/dbs`, {headers})).status, code, who);
        assert.equal((await fetch(`${guarded}/dbs/x`, {method: 'POST', headers})).status, code === 200 ? 403 : code, who);
    }
    await nobody(admin, grant);
    assert.equal(await status(ann.search(query)), 401);
}

async function main() {
    const client = watched(new HttpClient({endpoint: base}));
    await assert.rejects(new HttpClient({baseURL: `${base}/v1/nonexistent`}).listCollections(), e => e instanceof HttpError && e.status === 404);
    for (const part of [collections, indexes, entities, hybrid, partitions, names, imports]) await part(client);
    await nobody(client, await people(client));
    await guard();
    await data(client.dropCollection({collectionName: 'quick'}));
    assert.deepEqual(await data(client.listCollections()), []);
    const missing = [...methods].filter(name => !called.has(name));
    assert.deepEqual(missing, [], 'methods that no part of this test called with success');
    console.log(`milvus: ${called.size} of ${methods.size} methods of the client work`);
}

main().catch(error => {
    console.error(error);
    process.exit(1);
});
