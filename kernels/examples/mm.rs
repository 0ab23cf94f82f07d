use std::time::Instant;
use ocelli_kernels::*;
fn main(){
  for (t, r, c) in [(145usize, 4096usize, 1024usize),(145,1024,4096),(145,1024,1024),(130,4096,1024),(1152,4096,1024),(1152,1024,4096)] {
   let x: Vec<f32> = (0..t*c).map(|i| ((i*37%101) as f32-50.0)/50.0).collect();
   let shape = PackedShape::new(Bits::Eight, r, c, None).unwrap();
   let codes: Vec<u8> = (0..shape.codes_len()).map(|i| (i*97%127) as u8).collect();
   let scales = vec![f16::from_f32(0.01); shape.scales_len()];
   let w = PackedMatrix::new(shape, &codes, &scales).unwrap();
   let mut best = [1e9f64;2];
   for threads in [1,2] {
     for _ in 0..8 { 
       let start=Instant::now();
       std::thread::scope(|s| { for _ in 0..threads { s.spawn(|| { let mut out = vec![0.0; t*r]; in_piece(|| for _ in 0..3 {matmul_packed(Isa::detect(), &x, &w, None, &mut out)}); }); } });
       best[threads-1]=best[threads-1].min(start.elapsed().as_secs_f64()/3.0);
     }
   }
   let ops = (2*t*r*c) as f64;
   println!("{t} {r} {c}: one thread {:.1}, two {:.1} GOP/s", ops/best[0]/1e9, 2.0*ops/best[1]/1e9);
  }
}
