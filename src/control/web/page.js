(function(){"use strict";
const $=id=>document.getElementById(id),body=document.body,table=document.querySelector("table"),admin=!!document.querySelector(".pick");
const first=admin?3:2,state=$("state"),filter=$("filter");
// Values as they are sorted: 1.5 kB, 340 µs, 2 h 05 m, 1 234 / 2 000.
const units={"B":1,"kB":1e3,"MB":1e6,"GB":1e9,"TB":1e12,"µs":1e-6,"ms":1e-3,"s":1,"m":60,"h":3600,"d":86400};
function value(text){const t=text.replace(/\u202f/g,"").split(" / ")[0];let n=0,seen=false;
for(const m of t.matchAll(/([\d.]+)\s*([a-zA-Zµ]*)/g)){n+=parseFloat(m[1])*(units[m[2]]||1);seen=true}return seen?n:-1}
function draw(svg,v){if(!v.length)return;const max=Math.max(1,...v),s=60-v.length;
svg.firstChild.setAttribute("points",v.map((y,i)=>(s+i)+","+(15-14*y/max).toFixed(1)).join(" "))}
const part=Number(table.dataset.part),graphs=new Map();
document.querySelectorAll(".graph svg").forEach(s=>graphs.set(s,s.dataset.v?s.dataset.v.split(",").map(Number):[]));
let latest=new Map();
let heads=[...table.tHead.rows[0].cells],sorted=-1,down=false;
function sort(){if(sorted<0)return;for(const b of table.tBodies){const rows=[...b.rows].filter(r=>r.classList.contains("server"));
if(rows.length<2)continue;const end=rows[rows.length-1].nextSibling;
rows.sort((x,y)=>{const a=x.cells[sorted].textContent,c=y.cells[sorted].textContent;
const d=sorted<first?a.localeCompare(c):value(a)-value(c);return down?-d:d});
const now=[...b.rows].filter(r=>r.classList.contains("server"));
if(rows.some((r,i)=>r!==now[i]))rows.forEach(r=>b.insertBefore(r,end))}}
heads.forEach((h,i)=>{if(h.classList.contains("pick")||h.classList.contains("graph"))return;h.tabIndex=0;
const go=()=>{down=sorted===i?!down:i>=first;sorted=i;heads.forEach(o=>o.removeAttribute("aria-sort"));
h.setAttribute("aria-sort",down?"descending":"ascending");sort()};
h.addEventListener("click",go);h.addEventListener("keydown",e=>{if(e.key==="Enter"||e.key===" "){e.preventDefault();go()}})});
function narrow(){const q=filter.value.toLowerCase();for(const b of table.tBodies){const own=b.dataset.name.toLowerCase().includes(q);let any=false;
for(const r of b.rows){if(r.classList.contains("proxy"))continue;
const hit=!q||own||r.cells[first-2].textContent.toLowerCase().includes(q)||r.cells[first-1].textContent.toLowerCase().includes(q);
r.hidden=!hit;any=any||hit}b.hidden=!any}}
filter.hidden=false;filter.addEventListener("input",narrow);
document.querySelectorAll(".danger").forEach(b=>b.addEventListener("click",e=>{
if(!confirm("End all sessions of the chosen servers?"))e.preventDefault()}));
// Rules: the time of the last hit is kept, and how long ago that was is shown while they are open.
const rules=document.querySelector(".rules"),lasts=new Map();
document.querySelectorAll("[data-ago]").forEach(c=>{if(c.dataset.ago!=="")lasts.set(c,Date.now()-1e3*c.dataset.ago)});
function since(ms){const s=Math.max(0,Math.floor(ms/1e3)),m=Math.floor(s/60),h=Math.floor(s/3600),two=n=>String(n).padStart(2,"0");
return s<60?s+" s":s<3600?m+" m "+two(s%60)+" s":s<86400?h+" h "+two(m%60)+" m":Math.floor(h/24)+" d "+two(h%24)+" h"}
let known=false;
function hits(d){for(const id in d){const r=$("u"+id);if(!r)continue;put(r.cells[0],d[id]);
if(known||!lasts.has(r.cells[1])){lasts.set(r.cells[1],Date.now());r.className="hit"}}
known=true;if(rules&&rules.open)for(const [c,at] of lasts)put(c,since(Date.now()-at))}
const tiles=document.querySelectorAll(".tile>b"),cores=$("cores");
function put(cell,text){if(cell.textContent!==text)cell.textContent=text}
function update(e){const d=JSON.parse(e.data);d.tiles.forEach((t,i)=>tiles[i]&&put(tiles[i],t));
d.cores.forEach((l,i)=>{const c=cores.children[i];if(c){c.querySelector("meter").value=l;put(c.querySelector("i"),String(l))}});
for(const k in d.rows){const r=$("r"+k),[status,cls,cells,g]=d.rows[k];if(!r){continue}latest.set(r,g);
r.className=r.className.replace(/s-\S+/,"s-"+cls);put(r.querySelector(".state span"),status);
cells.forEach((t,i)=>{const c=r.cells[first+i];if(c&&!c.classList.contains("graph"))put(c,t)})}
for(const [svg,v] of graphs){const r=svg.closest("tr"),g=latest.get(r);if(!g)continue;
if(part>1)continue;const n=g[svg.classList.contains("k1")?1:0];if(n==null&&!v.length)continue;v.push(n||0);if(v.length>60)v.shift();draw(svg,v)}
if(d.rules)hits(d.rules);sort();if(filter.value)narrow();state.hidden=false;state.className="on";put(state,"live")}
if(window.EventSource&&!/;norefresh/.test(location.href)){
const flags=(location.href.match(/;(up|no-maint|10s|1m|5m|start)\b/g)||[]).join("");
const base=document.querySelector('.links a[href$=";csv"]').getAttribute("href").replace(/;csv$/,"");
const source=new EventSource(base+";live"+flags);source.onmessage=update;
if(part>1)setInterval(()=>fetch(base+";graphs;"+table.dataset.span).then(r=>r.json()).then(all=>{for(const svg of graphs.keys()){
const g=all[svg.closest("tr").id.slice(1)];if(g)draw(svg,g[svg.classList.contains("k1")?1:0])}}).catch(()=>{}),part*1e3);
source.onerror=()=>{state.hidden=false;state.className="";put(state,"connection lost")}}
const view=sessionStorage.getItem("view");if(view&&$(view))$(view).checked=true;
document.querySelectorAll(".views input").forEach(i=>i.addEventListener("change",()=>sessionStorage.setItem("view",i.id)));
})();
