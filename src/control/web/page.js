(function(){"use strict";
const $=id=>document.getElementById(id),body=document.body,table=document.querySelector("table"),admin=!!document.querySelector(".pick");
const first=admin?3:2,state=$("state"),filter=$("filter");
// Values as they are sorted: 1.5 kB, 340 µs, 2 h 05 m, 1 234 / 2 000.
const units={"B":1,"kB":1e3,"MB":1e6,"GB":1e9,"TB":1e12,"µs":1e-6,"ms":1e-3,"s":1,"m":60,"h":3600,"d":86400};
function value(text){const t=text.replace(/\u202f/g,"").split(" / ")[0];let n=0,seen=false;
for(const m of t.matchAll(/([\d.]+)\s*([a-zA-Zµ]*)/g)){n+=parseFloat(m[1])*(units[m[2]]||1);seen=true}return seen?n:-1}
function draw(svg,v){if(!v.length)return;const max=Math.max(1,...v),s=60-v.length;
svg.firstChild.setAttribute("points",v.map((y,i)=>(s+i)+","+(15-14*y/max).toFixed(1)).join(" "))}
const graphs=new Map();
document.querySelectorAll(".graph svg").forEach(s=>graphs.set(s,s.dataset.v?s.dataset.v.split(",").map(Number):[]));
let latest=new Map();
let heads=[...table.tHead.rows[0].cells],sorted=-1,down=false;
function sort(){if(sorted<0)return;for(const b of table.tBodies){const rows=[...b.rows].filter(r=>r.classList.contains("server"));
if(rows.length<2)continue;const end=rows[rows.length-1].nextSibling;
rows.sort((x,y)=>{const a=x.cells[sorted].textContent,c=y.cells[sorted].textContent;
const d=sorted<first?a.localeCompare(c):value(a)-value(c);return down?-d:d});
const now=[...b.rows].filter(r=>r.classList.contains("server"));
if(rows.some((r,i)=>r!==now[i]))rows.forEach(r=>b.insertBefore(r,end))}}
heads.forEach((h,i)=>{if(h.classList.contains("pick")||/60 s/.test(h.textContent))return;h.tabIndex=0;
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
const tiles=document.querySelectorAll(".tile>b"),cores=$("cores");
function put(cell,text){if(cell.textContent!==text)cell.textContent=text}
function update(e){const d=JSON.parse(e.data);d.tiles.forEach((t,i)=>tiles[i]&&put(tiles[i],t));
d.cores.forEach((l,i)=>{const c=cores.children[i];if(c){c.querySelector("meter").value=l;put(c.querySelector("i"),String(l))}});
for(const k in d.rows){const r=$("r"+k),[status,cls,cells,g]=d.rows[k];if(!r){continue}latest.set(r,g);
r.className=r.className.replace(/s-\S+/,"s-"+cls);put(r.querySelector(".state span"),status);
cells.forEach((t,i)=>{const c=r.cells[first+i];if(c&&!c.classList.contains("graph"))put(c,t)})}
for(const [svg,v] of graphs){const r=svg.closest("tr"),g=latest.get(r);if(!g)continue;
const n=g[svg.classList.contains("k1")?1:0];if(n==null&&!v.length)continue;v.push(n||0);if(v.length>60)v.shift();draw(svg,v)}
sort();if(filter.value)narrow();state.hidden=false;state.className="on";put(state,"live")}
if(window.EventSource&&!/;norefresh/.test(location.href)){
const flags=(location.href.match(/;(up|no-maint|10s|1m|5m|start)\b/g)||[]).join("");
const base=document.querySelector('.links a[href$=";csv"]').getAttribute("href").replace(/;csv$/,"");
const source=new EventSource(base+";live"+flags);source.onmessage=update;
source.onerror=()=>{state.hidden=false;state.className="";put(state,"connection lost")}}
const view=sessionStorage.getItem("view");if(view&&$(view))$(view).checked=true;
document.querySelectorAll(".views input").forEach(i=>i.addEventListener("change",()=>sessionStorage.setItem("view",i.id)));
})();
